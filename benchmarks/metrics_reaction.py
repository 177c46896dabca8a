"""How each distance and image metric reacts to planted faults: the table of docs/metrics.md.

    python benchmarks/metrics_reaction.py [--assets FOLDER] [--scenes 8] [--keep FOLDER] [--network filter-bank|i3d…]

With a folder of animated GLBs the scenes are rendered from those; else they are striped spheres. Numbers are per
cent of the same distance at a blur of one pixel of 64. Exits with 1 if a distance that ought to react does not
rise with the strength, or one that ought not to reacts as much as the least that ought to.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from metrics_scenes import Spheres, random_spheres

from viewtime.cameras import Cameras, regular_orbit
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.log import progress
from viewtime.sample.metrics.evaluator import FRECHET, GridEvaluator, Settings
from viewtime.sample.metrics.measures.frechet import frechet_distance
from viewtime.sample.metrics.measures.reaction import DEGRADATIONS, Scene, degraded
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.perceptual import LpipsStar
from viewtime.sample.metrics.networks.video import VideoNetwork, load_video_network

VIEWS, FRAMES, SIZE = 12, 12, 64
IMAGE_METRICS = ("object_crop_psnr", "lpips_star", "mask_iou", "flicker")
SIDES = ("pred", "gt")
COLUMNS = (*IMAGE_METRICS, *(f"{key}/{side}" for key in FRECHET for side in SIDES))
Table = dict[tuple[str, float], dict[str, float]]


class Remembered:
    """A network that embeds each clip once: the truth's clips come back with every fault."""

    def __init__(self, network: VideoNetwork) -> None:
        self.network, self.features = network, {}
        self.name, self.star, self.checksum = network.name, network.star, network.checksum
        self.min_frames, self.preprocessing = network.min_frames, network.preprocessing

    def prepare(self, images: Tensor) -> Tensor:
        """See `VideoNetwork`."""
        return self.network.prepare(images)

    def __call__(self, clips: Tensor) -> Tensor:
        """See `VideoNetwork`."""
        keys = [hash(clip.cpu().numpy().tobytes()) for clip in clips]
        new = [index for index, key in enumerate(keys) if key not in self.features]
        if new:
            self.features |= dict(zip((keys[index] for index in new), self.network(clips[new]), strict=True))
        return torch.stack([self.features[key] for key in keys])


def sphere_scenes(count: int) -> list[Scene]:
    """Random striped spheres, each seen from another start of the orbit."""
    return [partial(_seen_spheres, random_spheres(seed), 37.0 * seed) for seed in range(count)]


def _seen_spheres(spheres: Spheres, start: float, wrong: Tensor) -> FrameGrid:
    return spheres.render(_cameras(start, 2.0, wrong), SIZE)


def asset_scenes(folder: Path, count: int) -> list[Scene]:
    """The liveliest loop of animated GLBs, once over the frames; files that cannot be read are left out."""
    from viewtime.errors import UserError
    from viewtime.render_objaverse.gl import GLRenderer
    from viewtime.render_objaverse.gltf import load_scene

    renderer, scenes = GLRenderer(SIZE), []
    for path in sorted(folder.glob("*.glb")):
        try:
            scene = load_scene(path)
        except UserError:
            continue
        moving = max(scene.clips, key=partial(_movement, scene), default=None)
        if moving is None or path.name.startswith(("bad_", "reject_")):
            continue
        scenes.append(partial(_seen_asset, renderer, scene, moving, 37.0 * len(scenes)))
        if len(scenes) == count:
            break
    return scenes


def _movement(scene, clip) -> float:
    """Spread of the vertices over the clip, less the gap between its ends, in sizes of the posed object.

    A lag shows only where things move, and only a loop may be rolled over its end.
    """
    from viewtime.render_objaverse.pose import pose_scene

    posed = pose_scene(scene, clip, clip.frame_times(7)).positions
    extent = np.ptp(posed, axis=(0, 1)).max()
    gap = np.abs(posed[-1] - posed[0]).mean()
    return float((posed[:-1].std(axis=0).mean() - gap) / max(extent, 1e-9))


def _seen_asset(renderer, scene, clip, start: float, wrong: Tensor) -> FrameGrid:
    from viewtime.render_objaverse.framing import camera_distance, normalise
    from viewtime.render_objaverse.pose import pose_scene

    times = clip.frame_times(FRAMES + 1)[:-1]  # the last key repeats the first in a loop
    posed = pose_scene(scene, clip, times)
    placement = normalise(posed.positions)
    rotations = _cameras(start, 2.0, torch.zeros(VIEWS)).camera_to_world()[:, 0, :3, :3].numpy()
    distance = camera_distance(placement.apply(posed.positions), rotations, fit="projected")
    cameras = _cameras(start, distance, wrong)
    images = renderer.draw(posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement)
    frames = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255.0
    return FrameGrid(frames, torch.ones(VIEWS, FRAMES, dtype=torch.bool), cameras)


def _cameras(start: float, distance: float, wrong: Tensor) -> Cameras:
    orbit = regular_orbit(VIEWS, FRAMES, azimuth_start=start, distance=distance)
    return Cameras(orbit.elevation, orbit.azimuth + wrong[:, None], orbit.distance, orbit.fov_y)


def seen_once(scene: Scene) -> Scene:
    """The scene, each azimuth error rendered once for all views: a view does not depend on the other cameras."""
    orbits: dict[float, FrameGrid] = {}

    def seen(wrong: Tensor) -> FrameGrid:
        for error in set(wrong.tolist()) - orbits.keys():
            orbits[error] = scene(torch.full_like(wrong, error))
        frames = torch.stack([orbits[error].frames[view] for view, error in enumerate(wrong.tolist())])
        first = orbits[float(wrong[0])]
        return FrameGrid(frames, first.known, first.cameras, first.fps)

    return seen


def measure(scenes: list[Scene], network: VideoNetwork | None = None, keep: Path | None = None) -> Table:
    """(fault, strength) -> every metric; Fréchet distances over all scenes, image metrics as means.

    Args:
        keep: folder for what each scene gave; scenes found there are not measured again.
    """
    network, found = network or FilterBank(), []
    for number, scene in enumerate(progress(scenes, "planting faults in scenes")):
        kept = keep / f"{number:03d}.safetensors" if keep else None
        if kept is None or not kept.is_file():
            found.append(measure_scene(scene, network))
            if kept is not None:
                with atomic_path(kept) as temporary:
                    save_file(found[-1], temporary)
        else:
            found.append(load_file(kept))
    table: Table = {}
    for fault in DEGRADATIONS:
        for strength in fault.strengths:
            rows = [{name: scene[f"{fault.name}/{strength:g}/{name}"] for name in COLUMNS} for scene in found]
            table[fault.name, strength] = summed_up(rows)
    return table


def summed_up(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """One row of the table from those of the scenes."""
    row = {}
    for key, title in FRECHET.items():
        sides = (np.concatenate([scene[f"{key}/{side}"].numpy() for scene in rows]) for side in SIDES)
        row[title] = frechet_distance(*sides)
    return row | {name: float(torch.stack([scene[name] for scene in rows]).mean()) for name in IMAGE_METRICS}


def measure_scene(scene: Scene, network: VideoNetwork) -> dict[str, Tensor]:
    """ "fault/strength/column" -> feature vectors of the clips, or the mean of an image metric."""
    remembered, seen, result = Remembered(network), seen_once(scene), {}
    settings = Settings(metrics=(*IMAGE_METRICS, *FRECHET), all_cells=True)
    truth = seen(torch.zeros(VIEWS))
    for fault in DEGRADATIONS:
        for strength in fault.strengths:
            scorer = GridEvaluator(settings, remembered, {"lpips_star": LpipsStar(FilterBank())})
            values = scorer.add(_eight_bits(degraded(seen, truth, fault, strength)), _eight_bits(truth)).values
            row = {name: torch.tensor(values[name]) for name in IMAGE_METRICS}
            for key in FRECHET:
                row |= {f"{key}/{side}": torch.from_numpy(x) for side, x in zip(SIDES, scorer.features[key][0])}
            result |= {f"{fault.name}/{strength:g}/{name}": value.contiguous() for name, value in row.items()}
    return result


def _eight_bits(grid: FrameGrid) -> FrameGrid:
    """RGB on white, rounded as a file would have it."""
    return FrameGrid((grid.rgb() * 255).round() / 255, grid.known, grid.cameras)


def failures(table: Table) -> list[str]:
    """Where a distance does not do what it ought to."""
    unit, found = table["blur", 1.0], []
    for fault in DEGRADATIONS:
        rows = [table[fault.name, strength] for strength in fault.strengths]
        for title in fault.reacts:
            values = [row[title] for row in rows]
            if not 0 < values[0] < values[1] < values[2]:
                found.append(f"{title} does not rise with {fault.name}: {values}")
        others = [title for title in FRECHET.values() if title not in fault.reacts]
        for row, strength in zip(rows, fault.strengths, strict=True):
            least = min((row[title] / unit[title] for title in fault.reacts), default=None)
            found += [
                f"{title} reacts to {fault.name} {strength:g} as much as those that ought to"
                for title in others
                if least is not None and row[title] / unit[title] >= least
            ]
    return found


def print_table(table: Table, star: str) -> None:
    """Markdown; bold where the distance ought to react."""
    unit = table["blur", 1.0]
    titles = list(FRECHET.values())
    names = ["PSNR, crop", "LPIPS\\*", "mask IoU", "flicker error"]
    print("| fault | strength | " + " | ".join(f"{title}{star}" for title in titles) + " | " + " | ".join(names) + " |")
    print("|---|---|" + "---:|" * (len(titles) + len(names)))
    for fault in DEGRADATIONS:
        for strength in fault.strengths:
            row = table[fault.name, strength]
            cells = [f"{100 * row[title] / unit[title]:.2f}" for title in titles]
            cells = [f"**{cell}**" if title in fault.reacts else cell for cell, title in zip(cells, titles)]
            cells += [f"{row['object_crop_psnr']:.1f}", f"{row['lpips_star']:.4f}"]
            cells += [f"{row['mask_iou']:.3f}", f"{row['flicker']:.4f}"]
            print(f"| {fault.name} | {strength:g} {fault.unit} | " + " | ".join(cells) + " |")
    print("\n100 % is " + ", ".join(f"{title}{star} {unit[title]:.3f}" for title in titles))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="folder for each scene's features; the same command goes on there")
    parser.add_argument("--network", default="filter-bank")
    parser.add_argument("--network-weights", type=Path)
    options = parser.parse_args()
    network = load_video_network(options.network, options.network_weights)
    scenes = asset_scenes(options.assets, options.scenes) if options.assets else sphere_scenes(options.scenes)
    start, cpu = time.monotonic(), time.process_time()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    table = measure(scenes, network, options.keep)
    print_table(table, "\\*" if network.star else "")
    found = failures(table)
    spent = f"{time.monotonic() - start:.0f} s, {time.process_time() - cpu:.0f} s of CPU time"
    print(f"\n{len(scenes)} scenes of {VIEWS} × {FRAMES} at {SIZE}×{SIZE}, {spent}; {len(found)} failures")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
