"""How the cost of a step of the Gaussian fit grows: milliseconds by Gaussians, pixels, views, frames, and threads.

    python benchmarks/fit_growth.py GRID [--steps 30]

GRID is a grid folder, for example a truth of `make demo` (runs/demo/truth/grids/NAME). One number changes at a time
from 2,000 Gaussians, 128 px, 2 views of 4 frames a step, and one thread; pictures are the grid's, scaled. Steps are
those of the dynamic stage once all frames take part; the median of them is printed, by the processor's clock and by the
wall's. Threads go up to the machine's cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.grid import FrameGrid
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.fit import GaussianFit
from viewtime.recon.gaussians.initialise import first_gaussians
from viewtime.recon.render.threads import one_thread

USUAL = {"Gaussians": 2000, "pixels": 128, "views": 2, "frames": 4, "threads": 1}
TRIED = {
    "Gaussians": (500, 2000, 8000, 20000),
    "pixels": (64, 128, 256, 512),
    "views": (1, 2, 4),
    "frames": (1, 4, 8),
    "threads": tuple(count for count in (1, 2, 4, 8, 16) if count <= (os.cpu_count() or 1)),
}
STATIC, WARM_UP = 150, 10


def scaled(grid: FrameGrid, pixels: int) -> FrameGrid:
    """The grid with square cells of so many pixels."""
    V, count = grid.frames.shape[:2]
    frames = F.interpolate(grid.frames.flatten(0, 1), size=(pixels, pixels), mode="bilinear", antialias=True)
    return dataclasses.replace(grid, frames=frames.unflatten(0, (V, count)).clamp(0, 1))


def step_milliseconds(grid: FrameGrid, size: dict[str, int], steps: int) -> tuple[float, float]:
    """Median of a step by the processor's clock, all threads together, and by the wall's."""
    torch.set_num_threads(size["threads"])
    stages = {
        "count": size["Gaussians"], "views_per_step": size["views"], "frames_per_step": size["frames"],
        "static_iterations": STATIC, "dynamic_iterations": 2 * (WARM_UP + steps),
    }  # fmt: skip
    config = build(ReconstructConfig, {**load_preset("fast"), "grid": "grid"}, where="fast")
    config = dataclasses.replace(config, gaussians=dataclasses.replace(config.gaussians, **stages))
    targets = make_targets(scaled(grid, size["pixels"]))
    fit = GaussianFit(targets, first_gaussians(targets, config), config)
    spent = []
    with one_thread(targets.elements(size["frames"] * size["views"])):
        while not fit.finished():
            began = time.process_time(), time.perf_counter()
            fit.step()
            spent.append((1000 * (time.process_time() - began[0]), 1000 * (time.perf_counter() - began[1])))
    processor, wall = zip(*spent[-steps:], strict=True)
    return statistics.median(processor), statistics.median(wall)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--steps", type=int, default=30, help="steps that are measured")
    options = parser.parse_args()
    grid = FrameGrid.load(options.grid)
    usual = step_milliseconds(grid, USUAL, options.steps)
    print(
        "| what grows | from | to | CPU ms a step | ratio to usual | wall ms | ratio |\n|---|---|---|---|---|---|---|"
    )
    for what, values in TRIED.items():
        for value in values:
            spent = usual if value == USUAL[what] else step_milliseconds(grid, {**USUAL, what: value}, options.steps)
            times = (f"{now:.1f} | {now / before:.2f}" for now, before in zip(spent, usual, strict=True))
            print(f"| {what} | {USUAL[what]} | {value} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
