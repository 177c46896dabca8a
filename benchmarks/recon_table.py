"""Held-out quality of reconstructions of ground-truth grids, against two things that need no 4D at all.

    python benchmarks/recon_table.py --assets FOLDER [--clips q_animals__Horse ...] [--out FILE.json]

Renders 8 training and 4 held-out views of 21 frames with the project's own engine, fits the training views, and
prints means over the held-out cells: PSNR (picture and object crop), SSIM, mask IoU, flicker, wall and CPU seconds,
and peak memory.
`carving` is a voting hull per frame with the mean colour that the training views see at each voxel; `static` is an
independent fit per frame with the same number of iterations in all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.reconstruct import GaussianOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.asset import GaussianAsset
from viewtime.recon.command import bake, fit_gaussians
from viewtime.recon.hull import view_pixels, voting_hull
from viewtime.recon.score import scores
from viewtime.recon.targets import make_targets

CLIPS = {
    "q_animals__Horse": "gallop", "q_dinosaurs__Trex": "walk", "q_fish__Shark": "swim", "q_mech__George": "dance",
    "q_easy_enemies__Spider": "walk", "q_single_knight__KnightCharacter": "slash", "khronos_Fox": "run",
    "q_animals__Stag": "gallop",
}  # fmt: skip
FRAMES, SIZE = 21, 128


def truth(asset: Path, wanted: str, cameras: Cameras, size: int = SIZE) -> FrameGrid:
    """RGBA grid of the clip whose name holds `wanted` (else the first), normalised to the unit cube."""
    from viewtime.render_objaverse.framing import normalise
    from viewtime.render_objaverse.gl import GLRenderer
    from viewtime.render_objaverse.gltf import load_scene
    from viewtime.render_objaverse.pose import pose_scene

    scene = load_scene(asset)
    clip = next((c for c in scene.clips if wanted in c.name.lower()), scene.clips[0])
    times = clip.start + np.linspace(0.0, clip.duration, cameras.shape[1], endpoint=False)
    posed = pose_scene(scene, clip, times)
    with GLRenderer(size) as renderer:
        images = renderer.draw(
            posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=normalise(posed.positions)
        )
    frames = rearrange(torch.from_numpy(images), "v f h w c -> v f c h w").float() / 255
    fps = max(1.0, cameras.shape[1] / max(clip.duration, 1e-3))
    return FrameGrid(
        frames, torch.ones(cameras.shape, dtype=torch.bool), cameras, fps, {"asset": asset.name, "clip": clip.name}
    )


def carving(train: FrameGrid, unseen: FrameGrid) -> FrameGrid:
    """A voting hull per frame; each surface voxel has the mean colour of the training views, drawn as a small splat."""
    targets = make_targets(train)
    V, F, H, W = targets.shape
    assert unseen.cameras is not None
    columns = []
    for frame in range(F):
        cells = targets.cell(torch.arange(V), torch.tensor(frame))
        views = targets.views[cells]
        hull = voting_hull(targets.images[:, frame, 3], views, targets.reach, 96)
        points = hull.points(hull.surface())
        colour = front_colours(points, targets.images[:, frame, :3], views, hull.spacing)
        count = len(points)
        asset = GaussianAsset(
            points[None], torch.full((count, 1), (0.6 * hull.spacing) ** 2), torch.full((count,), 0.95), colour,
            torch.eye(3).expand(1, count, 3, 3), train.fps,
        )  # fmt: skip
        columns.append(asset.render_grid(unseen.cameras[:, [frame]], H, W).frames)
    frames = torch.cat(columns, dim=1)
    return dataclasses.replace(unseen, frames=frames)


def front_colours(points: torch.Tensor, images: torch.Tensor, views, spacing: float) -> torch.Tensor:
    """Mean colour [N, 3] over the views in which a point lies within three voxels of the nearest one at its pixel."""
    total, weight = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
    H, W = images.shape[-2:]
    for b in range(len(views)):
        pixel = view_pixels(points, views[b : b + 1])[0].floor().long().clamp(min=0)
        pixel = torch.minimum(pixel, torch.tensor([W - 1, H - 1]))
        depth = points @ views.world_to_camera[b, 2, :3] + views.world_to_camera[b, 2, 3]
        flat = pixel[:, 1] * W + pixel[:, 0]
        nearest = torch.full((H * W,), 1e9).scatter_reduce(0, flat, depth, "amin")
        seen = (depth < nearest[flat] + 3 * spacing).float()[:, None]
        total += seen * images[b, :, pixel[:, 1], pixel[:, 0]].T
        weight += seen
    return torch.where(weight > 0, total / weight.clamp(min=1), torch.full((), 0.5))


def static_per_frame(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> FrameGrid:
    """Each frame fitted by itself; all frames together get the iterations of the 4D fit."""
    F = train.shape[1]
    options = config.gaussians
    steps = max(1, (options.static_iterations + 2 * options.dynamic_iterations) // F)
    alone = dataclasses.replace(
        config, gaussians=dataclasses.replace(options, static_iterations=steps, dynamic_iterations=0)
    )
    assert unseen.cameras is not None
    columns = []
    for frame in range(F):
        part = train[:, [frame]]
        fit, _ = fit_gaussians(part, alone)
        columns.append(bake(fit, part).render_grid(unseen.cameras[:, [frame]], *train.shape[3:]).frames)
    return dataclasses.replace(unseen, frames=torch.cat(columns, dim=1))


def deformable(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> FrameGrid:
    """The 4D fit that `viewtime reconstruct` does."""
    fit, _ = fit_gaussians(train, config)
    assert unseen.cameras is not None
    return bake(fit, train).render_grid(unseen.cameras, *train.shape[3:])


def measured(work: Callable[[], FrameGrid], unseen: FrameGrid) -> dict[str, float]:
    """Scores with the wall and CPU seconds of making the cells, and the process's peak memory so far in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    rendered = work()
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**scores(rendered, unseen), **spent, "peak_mb": peak}


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("VIEWTIME_ASSETS", "../shared/assets")))
    parser.add_argument("--clips", nargs="+", default=list(CLIPS))
    parser.add_argument("--methods", nargs="+", default=["carving", "static", "gaussians"])
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = ReconstructConfig(Path("grid"), gaussians=GaussianOptions())
    rows = []
    for name in options.clips:
        path = options.assets / f"{name}.glb"
        if not path.is_file():
            raise UserError(f"no such asset: {path}; give --assets FOLDER")
        train = truth(path, CLIPS.get(name, ""), regular_orbit(8, options.frames, elevation=15.0))
        unseen = truth(path, CLIPS.get(name, ""), regular_orbit(4, options.frames, elevation=15.0, azimuth_start=22.5))
        for method in options.methods:
            work = {
                "carving": lambda t=train, u=unseen: carving(t, u),
                "static": lambda t=train, u=unseen: static_per_frame(t, u, config),
                "gaussians": lambda t=train, u=unseen: deformable(t, u, config),
            }[method]
            row = {"clip": name, "method": method, **measured(work, unseen)}
            rows.append(row)
            values = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))
            print(f"{name:34s} {method:10s} {values}", flush=True)
    for method in options.methods:
        chosen = [row for row in rows if row["method"] == method]
        means = {
            key: float(np.mean([row[key] for row in chosen])) for key in ("psnr", "crop_psnr", "ssim", "iou", "seconds")
        }
        print(f"{'mean':34s} {method:10s} " + "  ".join(f"{key} {value:.3f}" for key, value in means.items()))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
