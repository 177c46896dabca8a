"""Which glTF features each render engine shows as the file says: checks, and the table in docs/rendering.md.

    python tests/render/feature_table.py [--cycles] [--out docs/rendering.md]

Every row is a file out of `feature_files`, made on the spot. "facts" counts the places whose colour is as it must be;
"IoU" and "colour" compare the two engines: intersection over union of the silhouettes, and the mean difference of
RGB (0 to 255) where both are opaque.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from feature_files import COLOURS, FEATURES, Feature, write

from viewtime.cameras import Cameras, regular_orbit
from viewtime.render_objaverse.blender import Blender, CyclesQuality, choose_worlds, read_row
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import Placement, Posed, pose_scene

SIZE = 64
BEGIN, END = "<!-- feature table -->\n", "<!-- end of the feature table -->"


def camera() -> Cameras:
    """Straight from the front, the square [-1, 1] filling most of the picture."""
    return regular_orbit(1, 1, elevation=0.0, distance=4.0, fov_y=33.8)


def pose(feature: Feature, path: Path) -> Posed:
    """The feature's file at its time; a file with a time has exactly one clip that can be played."""
    scene = load_scene(path)
    if feature.time is None:
        return pose_scene(scene, None, [0.0])
    (clip,) = scene.clips
    return pose_scene(scene, clip, [feature.time])


def by_gl(renderer: GLRenderer, posed: Posed) -> np.ndarray:
    """uint8 [H, W, 4]."""
    cameras = camera()
    return renderer.draw(posed, cameras.camera_to_world().numpy(), cameras.fov_y)[0, 0]


def by_cycles(blender: Blender, posed: Posed, folder: Path) -> np.ndarray:
    """uint8 [H, W, 4]."""
    blender.open_posed(posed)
    world = choose_worlds(blender, "studio")[0]
    quality = CyclesQuality(samples=4, denoise=False)
    blender.render(folder, None, posed.times, camera(), Placement(), SIZE, world, quality=quality)
    return read_row(folder, 0, 1)[0]


def wrong_places(feature: Feature, image: np.ndarray) -> list[str]:
    """Facts that the picture uint8 [H, W, 4] contradicts, in words."""
    wrong = []
    for (x, y), colour in feature.facts.items():
        pixel, _ = camera().project(torch.tensor([[x, 0.0, y]]), SIZE, SIZE)
        column, row = (int(value) for value in pixel[0, 0, 0])
        seen = image[row, column].astype(float) / 255
        if colour == "none":
            right = seen[3] < 0.25
        else:
            right = seen[3] > 0.75 and np.abs(seen[:3] - COLOURS[colour]).max() < 0.2
        if not right:
            wrong.append(f"at ({x:g}, {y:g}) {np.round(seen, 2).tolist()}, not {colour}")
    return wrong


def agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """(IoU of the silhouettes, mean difference of RGB where both are opaque) of two pictures uint8 [H, W, 4]."""
    ours, theirs = first[..., 3] > 127, second[..., 3] > 127
    both = (first[..., 3] > 250) & (second[..., 3] > 250)
    difference = np.abs(first[..., :3].astype(float) - second[..., :3])[both].mean()
    return float((ours & theirs).sum() / (ours | theirs).sum()), float(difference)


def table(cycles: bool) -> str:
    """The table in Markdown."""
    lines = ["| feature | `gl` facts | `cycles` facts | IoU | colour |", "|---|---|---|---|---|"]
    blender = Blender(threads=1) if cycles else None
    with tempfile.TemporaryDirectory() as name, GLRenderer(SIZE) as renderer:
        for number, feature in enumerate(FEATURES):
            posed = pose(feature, write(feature, Path(name)))
            drawn, total = by_gl(renderer, posed), len(feature.facts)
            cells = [f"{total - len(wrong_places(feature, drawn))} of {total}", "", "", ""]
            if blender is not None:
                traced = by_cycles(blender, posed, Path(name) / str(number))
                overlap, difference = agreement(drawn, traced)
                cells[1:] = [f"{total - len(wrong_places(feature, traced))} of {total}"]
                cells += [f"{overlap:.3f}", f"{difference:.1f}"]
            lines.append(f"| {feature.name} | " + " | ".join(cells) + " |")
    if blender is not None:
        blender.close()
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", action="store_true", help="ask Blender as well (minutes)")
    parser.add_argument("--out", type=Path, help="a document whose table is replaced")
    options = parser.parse_args()
    made = table(options.cycles)
    print(made, end="")
    if options.out:
        before, rest = options.out.read_text().split(BEGIN)
        options.out.write_text(before + BEGIN + made + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
