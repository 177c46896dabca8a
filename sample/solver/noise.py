"""Start noise, drawn per cell on the CPU so that a seed means the same grid on any machine and in any grouping."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def cell_seed(seed: int, view: int, frame: int, draw: int = 0) -> int:
    """A 63-bit seed from (seed, view, frame, draw); equal on every platform and Python version."""
    digest = hashlib.sha256(f"viewtime:{seed}:{view}:{frame}:{draw}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def cell_noise(
    seed: int,
    views: Sequence[int],
    frames: Sequence[int],
    shape: Sequence[int],
    draw: int | Callable[[int, int], int] = 0,
    shared: bool = False,
) -> Tensor:
    """Standard normal noise for a rectangle of cells.

    Args:
        views, frames: grid indices of the rows and columns.
        shape: shape of one cell, usually (C, H, W).
        draw: how often the cell was sampled before (a number, or a function of view and frame). A cell that a
            plan samples again, e.g. SV4D's anchors in the dense stage, gets fresh noise: the old one is
            correlated with what the new window is conditioned on.
        shared: all frames of a view have the noise of frame 0, so that what noise decides does not flicker.

    Returns:
        [V, F, *shape] float32 on the CPU. A cell's noise depends on nothing but its own four numbers.
    """
    times = draw if callable(draw) else lambda view, frame: draw
    rows = []
    for view in views:
        row = []
        for frame in frames:
            own = cell_seed(seed, view, 0 if shared else frame, times(view, frame))
            generator = torch.Generator().manual_seed(own)
            row.append(torch.randn(tuple(shape), generator=generator))
        rows.append(torch.stack(row))
    return torch.stack(rows)
