"""Density at the start of a run, and Dream-in-4D's way from a moved point to the canonical field."""

from __future__ import annotations

import torch.nn.functional as nnF
from torch import Tensor


def blob_bias(points: Tensor, spread: float, scale: float = 10.0) -> Tensor:
    """Magic3D's offset that starts a field as a blob: scale · (1 − |x| / spread).

    Args:
        points: world positions in [-1, 1]³, [..., 3].
        spread: radius in world units at which the offset is 0; 4D-fy's third stage raises it from 0.5 to 5 over
            50000 steps and it stays there: `Ramp(0, 0.5, 5.0, 50000)`.

    Returns:
        [..., 1].
    """
    return scale * (1 - points.norm(dim=-1, keepdim=True) / spread)


def density(raw: Tensor, bias: Tensor) -> Tensor:
    """softplus(raw + bias), per world unit; [..., 1] each."""
    return nnF.softplus(raw + bias)


def squashed_displacement(raw: Tensor) -> Tensor:
    """The deformation network's output [..., 3] to a displacement in (-1, 1) of the unit cube: 2 sigmoid(raw) − 1."""
    return 2 * raw.sigmoid() - 1


def warped(position: Tensor, displacement: Tensor, scale: float = 1.0) -> Tensor:
    """Where the canonical field is asked: ((p + d) − ½) / scale + ½, clamped to [0, 1]; [..., 3] in the unit cube.

    Args:
        position: sample positions; displacement: from `squashed_displacement`.
        scale: enlarges the object by this factor.
    """
    moved = position + displacement
    return (moved if scale == 1 else (moved - 0.5) / scale + 0.5).clamp(0, 1)
