"""The four paths through a grid whose images, in order, are the videos of SV4D's Fréchet distances (figure 7).

Every path is a list of clips, every clip a list of (view, frame) cells. F, V and Diag visit each cell once over
their clips, FV4D in its one clip.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Clip = list[tuple[int, int]]


def frame_clips(V: int, F: int) -> list[Clip]:
    """FVD-F: the F frames of each view, one clip per view."""
    return [[(view, frame) for frame in range(F)] for view in range(V)]


def view_clips(V: int, F: int) -> list[Clip]:
    """FVD-V: the V views of each frame, one clip per frame."""
    return [[(view, frame) for view in range(V)] for frame in range(F)]


def diagonal_clips(V: int, F: int) -> list[Clip]:
    """FVD-Diag: time and view advance together, one clip of F cells per starting view.

    The view wraps around, since an orbit closes; time never does, since a motion need not. Clip 0 is the main
    diagonal.
    """
    return [[((start + frame) % V, frame) for frame in range(F)] for start in range(V)]


def raster_clips(V: int, F: int) -> list[Clip]:
    """FV4D: all cells in one clip, in bidirectional raster order.

    Views in turn, frames forward in even views and backward in odd ones, so that neighbours along the clip differ
    by one view or by one frame.
    """
    order = [(view, frame if view % 2 == 0 else F - 1 - frame) for view in range(V) for frame in range(F)]
    return [order]


PATHS: dict[str, Callable[[int, int], list[Clip]]] = {
    "FVD-F": frame_clips,
    "FVD-V": view_clips,
    "FVD-Diag": diagonal_clips,
    "FV4D": raster_clips,
}


def windows(clip: Clip, length: int | None, stride: int | None = None) -> list[Clip]:
    """Cut a clip into windows of `length` cells every `stride` (default: `length`); None keeps it whole.

    A remainder shorter than `length` is left out; a clip that is shorter gives no window.
    """
    if length is None:
        return [clip]
    return [clip[start : start + length] for start in range(0, len(clip) - length + 1, stride or length)]


def wrapped(clip: Clip, length: int) -> Clip:
    """A clip of a closed orbit that goes on from its first cell until it has at least `length` cells."""
    return [clip[index % len(clip)] for index in range(max(length, len(clip)))]


def gather(frames: Tensor, clip: Clip) -> Tensor:
    """Cells [V, F, C, H, W] along a clip: [T, C, H, W]."""
    views, instants = zip(*clip, strict=True)
    return frames[torch.tensor(views), torch.tensor(instants)]
