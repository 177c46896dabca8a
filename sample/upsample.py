"""A grid enlarged by the diffusion upsampler: windows over views and frames that agree at every step.

    python -m viewtime.sample.upsample GRID_FOLDER OUT_FOLDER --weights UPSAMPLER.safetensors

Noise is drawn per cell, as everywhere. Where a grid is larger than a window, overlapping windows are denoised from
one common state and their predictions are averaged before each step, so no seam runs between windows and the result
does not depend on their order.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.denoiser import Denoiser, NetworkDenoiser
from viewtime.model.four_real.config import UpsamplerConfig
from viewtime.model.registry import build_denoiser
from viewtime.sample.noise import cell_noise
from viewtime.sample.plan import spans
from viewtime.sample.samplers import get_sampler
from viewtime.sample.schedules import make_schedule
from viewtime.weights import load_weights, read_header

WINDOW, OVERLAP, STEPS = 8, 2, 8


@torch.no_grad()
def upsample(
    small: Tensor,
    denoiser: Denoiser,
    factor: int,
    seed: int = 0,
    steps: int = STEPS,
    window: int = WINDOW,
    overlap: int = OVERLAP,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Enlarge a grid.

    Args:
        small: [V, F, 3, h, w] in [0, 1].
        denoiser: takes `cond["small"]`.
        window, overlap: largest window along either axis, and what neighbouring windows share.

    Returns:
        [V, F, 3, factor h, factor w] in [0, 1].
    """
    V, F, C, h, w = small.shape
    condition = (small * 2 - 1).to(device)
    noise = cell_noise(seed, range(V), range(F), (C, factor * h, factor * w)).to(device)
    places = [
        (slice(views.start, views.stop), slice(frames.start, frames.stop))
        for views in spans(V, window, overlap)
        for frames in spans(F, window, overlap)
    ]

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        del step
        total, count = torch.zeros_like(x), x.new_zeros(V, F, 1, 1, 1)
        for views, frames in places:
            cells = x[views, frames]
            level = torch.full((1,), sigma, device=x.device)
            total[views, frames] += denoiser(cells[None], level, {"small": condition[None, views, frames]})[0]
            count[views, frames] += 1
        return total / count

    large = get_sampler("euler")(denoise, noise, make_schedule(denoiser.schedule_kind, steps))
    return (large.cpu() / 2 + 0.5).clamp(0, 1)


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
    load_weights(denoiser.network, path, device, torch.float32)
    denoiser.eval().requires_grad_(False)
    return denoiser, build(UpsamplerConfig, section["config"], f"{path}: model.config").factor


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 ok, 1 failed, 2 misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m viewtime.sample.upsample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", type=Path, help="folder of a grid")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    try:
        denoiser, factor = load_upsampler(arguments.weights, arguments.device)
        grid = FrameGrid.load(arguments.grid)
        large = upsample(grid.rgb(), denoiser, factor, arguments.seed, arguments.steps, device=arguments.device)
        facts = {**grid.provenance, "upsampled": {"factor": factor, "seed": arguments.seed, "steps": arguments.steps}}
        print(FrameGrid(large, grid.known, grid.cameras, grid.fps, facts).save(arguments.out))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
