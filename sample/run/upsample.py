"""A grid enlarged by the diffusion upsampler: windows over views and frames that agree at every step.

    python sample.py … --upsampler UPSAMPLER.safetensors
    python -m viewtime.sample.run.upsample GRID_FOLDER OUT_FOLDER --weights UPSAMPLER.safetensors

Noise is drawn per cell, as everywhere. Where a grid is larger than a window, overlapping windows are denoised from
one common state and their predictions are averaged before each step, so no seam runs between windows and the result
does not depend on their order. The state lies in the host's memory; the device holds one window at a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.configs.load import build
from viewtime.configs.schema.sample import SampleConfig, UpsampleOptions
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import progress_bar
from viewtime.model.denoiser import Denoiser, NetworkDenoiser
from viewtime.model.four_real.config import UpsamplerConfig
from viewtime.model.precision import part_dtypes
from viewtime.model.registry import build_denoiser
from viewtime.sample.models.grid_model import ModelTraits
from viewtime.sample.plan.plan import Cell, spans
from viewtime.sample.solver.noise import cell_noise
from viewtime.sample.solver.samplers import get_sampler
from viewtime.sample.solver.schedules import make_schedule
from viewtime.weights import load_weights, read_header

from .store import CellStore


@torch.no_grad()
def upsample(
    small: Tensor,
    denoiser: Denoiser,
    factor: int,
    seed: int = 0,
    options: UpsampleOptions | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Enlarge a grid.

    Args:
        small: [V, F, 3, h, w] in [0, 1].
        denoiser: takes `cond["small"]`.

    Returns:
        [V, F, 3, factor h, factor w] in [0, 1].

    Raises:
        UserError: fewer than one step, or windows that do not advance.
    """
    V, F, C, h, w = small.shape
    options = options or UpsampleOptions()
    steps, window, overlap = options.steps, options.window, options.overlap
    if steps < 1 or not 0 <= overlap < window:
        raise UserError(
            f"--upsample.steps {steps}, --upsample.window {window}, --upsample.overlap {overlap}; at least one step, "
            "and windows larger than their overlap are needed"
        )
    condition = small * 2 - 1
    noise = cell_noise(seed, range(V), range(F), (C, factor * h, factor * w))
    places = [
        (slice(views.start, views.stop), slice(frames.start, frames.stop))
        for views in spans(V, window, overlap)
        for frames in spans(F, window, overlap)
    ]

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        del step
        total, count = torch.zeros_like(x), x.new_zeros(V, F, 1, 1, 1)
        for views, frames in places:
            part, level = condition[None, views, frames].to(device), torch.full((1,), sigma, device=device)
            total[views, frames] += denoiser(x[None, views, frames].to(device), level, {"small": part})[0].to(x)
            count[views, frames] += 1
            bar.advance(1)
        return total / count

    with progress_bar("enlarging, windows", steps * len(places)) as bar:
        large = get_sampler("euler")(denoise, noise, make_schedule(denoiser.schedule_kind, steps))
    return (large / 2 + 0.5).clamp(0, 1)


def load_upsampler(path: str | Path, device: str | torch.device = "cpu") -> tuple[NetworkDenoiser, int]:
    """(denoiser, factor) of a weight file of "4real-upsampler".

    Raises:
        UserError: the file holds something else.
    """
    record, _ = read_header(path)
    section = record.get("model")
    if not isinstance(section, dict) or section.get("name") != "4real-upsampler":
        raise UserError(f"{path} holds no 4real-upsampler; its metadata names {section!r}")
    with torch.device("meta"):
        denoiser = build_denoiser("4real-upsampler", section["config"])
    load_weights(denoiser.network, path, device, part_dtypes(torch.device(device))["network"])
    denoiser.eval().requires_grad_(False)
    return denoiser, build(UpsamplerConfig, section["config"], f"{path}: model.config").factor


class Enlarger:
    """The second pass of `viewtime sample`; its weights are read before the first pass, so that a wrong file fails at
    once.

    Raises:
        UserError: not an upsampler, or the sampled cells have alpha.
    """

    def __init__(self, config: SampleConfig, device: torch.device, traits: ModelTraits) -> None:
        if traits.channels != 3:
            raise UserError(f"--upsampler enlarges RGB grids; {traits.name} makes RGBA, leave it out")
        assert config.upsampler is not None
        self.config, self.device = config, device
        self.denoiser, self.factor = load_upsampler(config.upsampler, device)

    def __call__(self, store: CellStore) -> tuple[Callable[[Sequence[Cell]], Tensor], dict[str, Any]]:
        """(what reads the enlarged cells, facts for the provenance)."""
        small = torch.stack([store.row(view) for view in range(store.plan.problem.views)])
        config = self.config
        large = upsample(small, self.denoiser, self.factor, config.seed, config.upsample, self.device)

        def read(cells: Sequence[Cell]) -> Tensor:
            return torch.stack([large[view, frame] for view, frame in cells])

        return read, {"upsampled": {"factor": self.factor, "seed": config.seed, "steps": config.upsample.steps}}


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 ok, 1 failed, 2 misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m viewtime.sample.run.upsample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", type=Path, help="folder of a grid")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=UpsampleOptions.steps)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    try:
        denoiser, factor = load_upsampler(arguments.weights, arguments.device)
        grid = open_grid(arguments.grid)
        options = UpsampleOptions(steps=arguments.steps)
        large = upsample(grid.rgb(), denoiser, factor, arguments.seed, options, arguments.device)
        facts = {**grid.provenance, "upsampled": {"factor": factor, "seed": arguments.seed, "steps": arguments.steps}}
        print(FrameGrid(large, grid.known, grid.cameras, grid.fps, facts).save(arguments.out))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
