"""Renders to the size that a guidance sees."""

from __future__ import annotations

import torch.nn.functional as nnF
from torch import Tensor


def resized(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, V, F, C, H, W] resized bilinearly, half-pixel centres, no antialiasing, with gradient."""
    if cells.shape[-2:] == size:
        return cells
    flat = nnF.interpolate(cells.flatten(0, 2), size, mode="bilinear", align_corners=False)
    return flat.unflatten(0, cells.shape[:3])
