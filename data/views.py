"""Which views and frames of a stored orbit a training sample shows, and which cells the model is given.

SV4D trains on 8 views and 5 frames drawn from 21 × 21 (paper A.2). View 0 of the drawn grid is the input view, and
azimuths are counted from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from viewtime.data.samples import GridSample
from viewtime.errors import UserError

KNOWN_KINDS = ("view", "view_and_frame", "view_and_ends", "random")


def draw_views(rng: np.random.Generator, stored: int, views: int) -> Tensor:
    """Indices [views] without repetition: a random input view first, the others in orbit order after it.

    Raises:
        UserError: fewer views are stored than asked for.
    """
    if views > stored:
        raise UserError(f"cannot draw {views} views from {stored}; lower data.options.views or render more views")
    chosen = rng.choice(stored, size=views, replace=False)
    first = int(chosen[0])
    return torch.tensor(sorted(chosen.tolist(), key=lambda view: (view - first) % stored))


def draw_frames(rng: np.random.Generator, stored: int, frames: int, max_stride: int = 1) -> Tensor:
    """Indices [frames]: random start, random stride in 1 … max_stride as far as the stored clip allows.

    Raises:
        UserError: fewer frames are stored than asked for, or the stride is below 1.
    """
    if frames > stored:
        raise UserError(f"cannot draw {frames} frames from {stored}; lower data.options.frames or render longer clips")
    if max_stride < 1:
        raise UserError(f"data.options.max_stride {max_stride}; must be at least 1")
    longest = (stored - 1) // (frames - 1) if frames > 1 else 1
    stride = int(rng.integers(1, min(max_stride, longest) + 1))
    start = int(rng.integers(0, stored - (frames - 1) * stride))
    return start + stride * torch.arange(frames)


def draw_subgrid(
    rng: np.random.Generator, sample: GridSample, views: int, frames: int, max_stride: int = 1
) -> GridSample:
    """A random V × F sub-grid with azimuths counted from its first view; fps follows the stride."""
    view_index = draw_views(rng, sample.shape[0], views)
    frame_index = draw_frames(rng, sample.shape[1], frames, max_stride)
    stride = int(frame_index[1] - frame_index[0]) if frames > 1 else 1
    chosen = sample.select(view_index, frame_index)
    return replace(chosen, cameras=chosen.cameras.rezero(0), fps=sample.fps / stride)


def known_cells(
    rng: np.random.Generator, views: int, frames: int, weights: Mapping[str, float], random_share: float = 0.3
) -> Tensor:
    """Bool [V, F]: the cells given as input, one pattern drawn by weight.

    "view": the input view (the monocular video). "view_and_frame": also the first frame of every view (SV4D's
    reference multi-views). "view_and_ends": also the first and the last frame of every view (the anchors of a dense
    window, SV4D, section 3.1). "random": the input view's first cell and each other cell with probability
    `random_share`.

    Raises:
        UserError: an unknown pattern, a negative weight, or no positive weight.
    """
    if unknown := sorted(set(weights) - set(KNOWN_KINDS)):
        raise UserError(f"unknown known-cell pattern {unknown[0]!r}; use {', '.join(KNOWN_KINDS)}")
    values = np.array([float(weights.get(kind, 0.0)) for kind in KNOWN_KINDS])
    if (values < 0).any() or values.sum() <= 0:
        raise UserError(f"known-cell weights {dict(weights)} need one positive value and no negative one")
    kind = KNOWN_KINDS[int(rng.choice(len(values), p=values / values.sum()))]
    known = torch.zeros(views, frames, dtype=torch.bool)
    if kind == "random":
        known |= torch.from_numpy(rng.random((views, frames)) < random_share)
        known[0, 0] = True
        return known
    known[0] = True
    if kind in ("view_and_frame", "view_and_ends"):
        known[:, 0] = True
    if kind == "view_and_ends" and frames > 2:
        known[:, -1] = True
    return known
