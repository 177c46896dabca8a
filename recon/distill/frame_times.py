"""At which times in [0, 1) a video of a step is rendered; `u` are uniform numbers of [0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def offset_times(u: float, frames: int = 16) -> Tensor:
    """4D-fy's: evenly spaced by 1 / frames from a random start below 1 / frames; [frames], float64."""
    start = u / frames
    return torch.linspace(start, start + (frames - 1) / frames, frames, dtype=torch.float64)


def interval_times(u_length: float, u_start: float, frames: int = 24) -> Tensor:
    """Dream-in-4D's: evenly spaced over a random interval of length 0.8 to 1; [frames], float64."""
    length = 0.8 + 0.2 * u_length
    start = u_start * (1 - length)
    return start + length * torch.linspace(0, 1, frames, dtype=torch.float64)


def one_of(times: Tensor, u: float) -> Tensor:
    """One of the times [F], as [1]: the instant of a picture in a step that shows no video."""
    return times[int(u * len(times))][None]
