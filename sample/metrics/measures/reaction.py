"""Planted degradations of known strength: how a metric reacts to each, and whether it should.

`benchmarks/metrics_reaction.py` prints the table, `docs/metrics.md` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from viewtime.grid import FrameGrid

Scene = Callable[[Tensor], FrameGrid]  # azimuth errors in degrees [V] -> the grid seen from there


def blur(grid: FrameGrid, sigma: float) -> Tensor:
    """Gaussian blur of premultiplied RGBA; `sigma` in pixels."""
    radius = math.ceil(3 * sigma)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(4, 1, 1, -1)
    V = grid.shape[0]
    frames = rearrange(grid.frames, "v f c h w -> (v f) c h w")
    pixels = torch.cat([frames[:, :3] * frames[:, 3:], frames[:, 3:]], dim=1)
    pixels = functional.conv2d(functional.pad(pixels, [radius] * 4), kernel, groups=4)[..., radius:-radius, :]
    pixels = functional.conv2d(functional.pad(pixels, [0, 0, radius, radius]), kernel.mT, groups=4)
    colour = torch.where(pixels[:, 3:] > 1e-4, pixels[:, :3] / pixels[:, 3:].clamp(min=1e-4), torch.ones(()))
    return rearrange(torch.cat([colour.clamp(0, 1), pixels[:, 3:]], dim=1), "(v f) c h w -> v f c h w", v=V)


def swap_views(grid: FrameGrid, pairs: float) -> Tensor:
    """Exchange whole views with those on the other side of the orbit."""
    return grid.frames[_exchanged(grid.shape[0], int(pairs))]


def shuffle_frames(grid: FrameGrid, pairs: float) -> Tensor:
    """Exchange instants, the same in all views, with those half a clip later."""
    return grid.frames[:, _exchanged(grid.shape[1], int(pairs))]


def _exchanged(length: int, pairs: int) -> Tensor:
    """0 … length - 1 with 1, 3, 5 … exchanged for those half the length later.

    Places of the first half that are not neighbours: every pair breaks four more neighbourhoods.
    """
    order, half = torch.arange(length), length // 2
    for first in range(1, min(2 * pairs, half), 2):
        order[[first, first + half]] = order[[first + half, first]]
    return order


def flicker(grid: FrameGrid, amplitude: float) -> Tensor:
    """Brightness of every instant, in all views alike, multiplied by 1 ± up to `amplitude` at random."""
    generator = torch.Generator().manual_seed(0)
    gain = 1 + amplitude * (2 * torch.rand(grid.shape[1], generator=generator) - 1)
    colour = (grid.frames[:, :, :3] * gain[None, :, None, None, None]).clamp(0, 1)
    return torch.cat([colour, grid.frames[:, :, 3:]], dim=2)


def lag(grid: FrameGrid, frames: float) -> Tensor:
    """Every second view shows what happened `frames` earlier; the motion loops."""
    result = grid.frames.clone()
    result[1::2] = grid.frames[1::2].roll(int(frames), dims=1)
    return result


@dataclass(frozen=True)
class Degradation:
    """A planted fault, its strengths in rising order, and the distances that ought to react to it."""

    name: str
    strengths: tuple[float, ...]
    unit: str
    reacts: tuple[str, ...]
    apply: Callable[[FrameGrid, float], Tensor] | None = None  # None: the cameras are wrong
    every_view: bool = False


ALL = ("FVD-F", "FVD-V", "FVD-Diag", "FV4D")
ACROSS_VIEWS = ("FVD-V", "FVD-Diag", "FV4D")
ACROSS_TIME = ("FVD-F", "FVD-Diag", "FV4D")
DEGRADATIONS = (
    Degradation("blur", (0.5, 1.0, 2.0), "pixels of sigma", ALL, blur),
    Degradation("view swap", (1, 2, 3), "pairs of opposite views", ACROSS_VIEWS, swap_views),
    Degradation("frame shuffle", (1, 2, 3), "pairs of instants", ACROSS_TIME, shuffle_frames),
    Degradation("flicker", (0.05, 0.1, 0.2), "gain of an instant", ACROSS_TIME, flicker),
    Degradation("lag", (1, 2, 3), "frames, every second view", ACROSS_VIEWS, lag),
    Degradation("azimuth", (5, 10, 20), "degrees, every second view", ACROSS_VIEWS),
    Degradation("azimuth of the whole orbit", (5, 10, 20), "degrees, all views", (), None, every_view=True),
)


def degraded(scene: Scene, truth: FrameGrid, fault: Degradation, strength: float) -> FrameGrid:
    """The grid of a scene with the fault planted."""
    if fault.apply is not None:
        return FrameGrid(fault.apply(truth, strength), truth.known, truth.cameras, truth.fps)
    wrong = torch.zeros(truth.shape[0])
    wrong[:: 1 if fault.every_view else 2] = strength
    seen = scene(wrong)
    return FrameGrid(seen.frames, truth.known, truth.cameras, truth.fps)
