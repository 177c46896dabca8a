"""Do both render engines draw the same thing? Poses and silhouettes of every asset, one line each.

    python benchmarks/silhouettes.py ASSETS [--size 128 --views 3 --frames 2]

ASSETS: GLB files, folders of them, or a manifest of `viewtime curate` (its kept rows). Each asset's last clip is drawn
at inner frames from a dynamic orbit by either engine with its default settings. Columns: the largest difference of
the bounding boxes that our reader and Blender's importer give, as a share of the object's longest extent; the smallest
and the mean intersection over union of the silhouettes (alpha above one half) over all images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from blender_import import imported_points  # beside this file

from viewtime.render_objaverse.assets import find_assets
from viewtime.render_objaverse.blender import Blender, choose_worlds, read_row
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.orbits import dynamic_orbit, with_distance
from viewtime.render_objaverse.pose import pose_scene


def compare(
    blender: Blender, renderer: GLRenderer, path: Path, size: int, views: int, frames: int
) -> tuple[float, np.ndarray]:
    """(largest difference of the bounding boxes over the longest extent, IoU [V, F])."""
    scene = load_scene(path)
    clip = scene.clips[-1]
    times = clip.frame_times(frames + 2)[1:-1]
    posed = pose_scene(scene, clip, times)
    placement = normalise(posed.positions)
    points, _ = imported_points(path, len(scene.clips) - 1, times)
    boxes = [np.abs(end(posed.positions, axis=1) - end(points, axis=1)).max() for end in (np.min, np.max)]
    cameras = dynamic_orbit(views, frames, np.random.default_rng(1))
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    cameras = with_distance(cameras, camera_distance(placement.apply(posed.positions), turn, fit="projected"))
    drawn = renderer.draw(posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement)
    world = choose_worlds(blender, "studio")[0]
    blender.open_posed(posed)
    with tempfile.TemporaryDirectory() as folder:
        blender.render(Path(folder), clip.name, times, cameras, placement, size, world)
        traced = np.stack([read_row(Path(folder), view, frames) for view in range(views)])
    ours, theirs = drawn[..., 3] > 127, traced[..., 3] > 127
    overlap = (ours & theirs).sum(axis=(2, 3)) / (ours | theirs).sum(axis=(2, 3))
    return float(max(boxes)) * placement.scale, overlap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--frames", type=int, default=2)
    options = parser.parse_args()
    assets = [asset for source in options.assets for asset in find_assets(source, "gl")]
    worst = 1.0
    print("| asset | box difference | IoU, smallest | IoU, mean |\n|---|---|---|---|")
    with Blender() as blender, GLRenderer(options.size) as renderer:
        for asset in assets:
            box, overlap = compare(blender, renderer, asset.path, options.size, options.views, options.frames)
            worst = min(worst, float(overlap.min()))
            print(f"| {asset.path.stem} | {box:.1e} | {overlap.min():.4f} | {overlap.mean():.4f} |", flush=True)
    print(f"{len(assets)} assets, {overlap.size} images each: smallest IoU {worst:.4f}")


if __name__ == "__main__":
    main()
