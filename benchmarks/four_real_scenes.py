"""Scene reconstruction where the truth is known: the engine's own room, forward-facing cameras, a moving knight.

    python benchmarks/four_real_scenes.py            # the tables of docs/4real.md; goes on where it stopped
    python benchmarks/four_real_scenes.py --write    # and writes them there

Every other view is held out. `bent` gives each training view an inconsistency of its own, the same at all frames: its
pictures are resampled by a smooth random flow of --bend pixels (rms; zero on average over the views), as views of a
generated freeze-time video disagree. PSNR is of the held-out views, which are not bent: of whole pictures, and of the
pixels that move. Poses are compared after the best similarity.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch
from four_real.rooms import bent, room_grid
from tables import write_table
from torch import Tensor

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.images import contact_sheet
from viewtime.recon.scene.cameras import scene_cameras
from viewtime.recon.scene.reconstruct import fit_scene, rendered_like
from viewtime.recon.scene.similarity import pose_errors
from viewtime.recon.scene.stillness import changing, still_pictures

DOCUMENT = Path(__file__).parent.parent / "docs/4real.md"
LEARNED = {"imperfect": {"view_deformation": True}}
NO_OFFSETS = {"scene": {"view_offsets": False}}
# Name -> (strength of the bend in units of --bend, changed options).
RUNS: dict[str, tuple[float, dict]] = {
    "default": (0, {}),
    "no Δp": (0, NO_OFFSETS),
    "no background": (0, {"scene": {"background": False}}),
    "floaters kept": (0, {"scene": {"opacity_iterations": 0}}),
    "MLP": (0, {"gaussians": {"motion": "mlp"}}),
    "bent, default": (1, {}),
    "bent, no Δp": (1, NO_OFFSETS),
    "bent, Δp learned": (1, {**NO_OFFSETS, **LEARNED}),
    "bent, central": (1, {"scene": {"canonical": "central"}}),
}


def config_of(changes: dict, options: argparse.Namespace) -> ReconstructConfig:
    """The preset with a run's changes."""
    mapping = {**load_preset("scene", "reconstruct"), "grid": "room", "seed": options.seed}
    for section, values in changes.items():
        mapping[section] = {**mapping.get(section, {}), **values}
    config = build(ReconstructConfig, mapping, "reconstruct")
    gaussians = dataclasses.replace(
        config.gaussians, static_iterations=options.static_iterations, dynamic_iterations=options.dynamic_iterations
    )
    return dataclasses.replace(config, gaussians=gaussians)


def psnr(drawn: Tensor, truth: Tensor, where: Tensor) -> float:
    """Over all pixels of the grid that count, dB; where [V, F, H, W]."""
    error = (drawn.clamp(0, 1) - truth).square().mean(dim=2)
    return float(-10 * error[where].mean().log10())


def measure(name: str, grid: FrameGrid, options: argparse.Namespace) -> dict:
    """Fit one run and score it on the held-out views; keeps a sheet of truth and result."""
    strength, changes = RUNS[name]
    V = len(grid.frames)
    train, unseen = grid[list(range(0, V, 2))], grid[list(range(1, V, 2))]
    train = bent(train, strength * options.bend, options.seed) if strength else train
    config = config_of(changes, options)
    started = time.process_time()
    asset, _, placed = fit_scene(train, unseen, config)
    seconds = time.process_time() - started
    assert placed is not None
    drawn = rendered_like(asset, placed).frames
    moving = changing(unseen.frames, still_pictures(unseen.frames), config.scene.still_threshold)
    last = [0, drawn.shape[1] - 1]
    rows = torch.stack([row for v in (0, len(drawn) - 1) for row in (unseen.frames[v, last], drawn[v, last])])
    contact_sheet(rows, options.results / f"{slug(name)}.png", row_labels=["truth", name.replace("Δ", "d")] * 2)
    return {
        "psnr": psnr(drawn, unseen.frames, torch.ones_like(moving)), "moving": psnr(drawn, unseen.frames, moving),
        "gaussians": asset.means.shape[1], "seconds": seconds,
    }  # fmt: skip


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def camera_table(grid: FrameGrid, options: argparse.Namespace) -> list[str]:
    """Poses that COLMAP finds on our tracks against the true ones, on consistent and on bent views."""
    lines = ["| views | error of places | of rotations |", "| --- | --- | --- |"]
    truth = grid.orbit.camera_to_world()[:, 0]
    for label, strength in (("as rendered", 0.0), ("bent", options.bend)):
        seen = bent(grid, strength, options.seed) if strength else grid
        told = config_of({"scene": {"fov_y": grid.orbit.fov_y}}, options).scene
        found = scene_cameras(dataclasses.replace(seen, cameras=None), told, options.seed).camera_to_world()[:, 0]
        place, turn = pose_errors(found, truth)
        lines.append(f"| {label} | {100 * place:.1f} % | {turn:.2f}° |")
    return lines


def main() -> None:
    """Parse the command line, run what is missing, print."""
    root = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asset", type=Path, default=root / "examples/knight.glb")
    parser.add_argument("--views", type=int, default=15)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 96))
    parser.add_argument("--bend", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--static-iterations", type=int, default=200)
    parser.add_argument("--dynamic-iterations", type=int, default=800)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--results", type=Path, default=Path("runs/four_real_scenes"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    grid = room_grid(options.asset, options.views, options.frames, tuple(options.size), seed=options.seed)
    lines = ["| run | PSNR | moving pixels | Gaussians | CPU s |", "| --- | --- | --- | --- | --- |"]
    for name in options.only:
        kept = options.results / f"{slug(name)}-{options.seed}-{options.dynamic_iterations}.json"
        if not kept.is_file():
            record = measure(name, grid, options)
            with atomic_path(kept) as path:
                path.write_text(json.dumps(record))
        row = json.loads(kept.read_text())
        lines.append(
            f"| {name} | {row['psnr']:.2f} | {row['moving']:.2f} | {row['gaussians']} | {row['seconds']:.0f} |"
        )
        print(lines[-1], flush=True)
    cameras = camera_table(grid, options)
    print("\n".join([*lines, "", *cameras]))
    if options.write:
        write_table(DOCUMENT, "scenes", [*lines, "", *cameras], "python benchmarks/four_real_scenes.py")


if __name__ == "__main__":
    main()
