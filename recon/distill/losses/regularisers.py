"""What keeps a volume clean: displacement total variation (Dream-in-4D, eq. 5), sparsity, opacity, orientation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

OPACITY_MARGIN = 1e-3
SPARSITY_FLOOR = 0.01


class TotalVariation(NamedTuple):
    """Sums of squared forward differences along each axis, over a batch's mean; each []."""

    time: Tensor
    height: Tensor
    width: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.time + self.height + self.width


def displacement_variation(displacement: Tensor) -> TotalVariation:
    """Total variation of a displacement video [B, T, H, W, 3], in the displacement's units squared.

    The video is Σ w_i d_i per pixel, as the volume renderer gives it: not divided by the opacity.
    """
    if displacement.ndim != 5:
        raise ValueError(f"a displacement video is [B, T, H, W, 3], got {tuple(displacement.shape)}")
    batch = len(displacement)
    return TotalVariation(*(displacement.diff(dim=axis).square().sum() / batch for axis in (1, 2, 3)))


def sparsity(opacity: Tensor) -> Tensor:
    """Mean of √(o² + 0.01) over opacities of any shape."""
    return (opacity.square() + SPARSITY_FLOOR).sqrt().mean()


def opaqueness(opacity: Tensor) -> Tensor:
    """Mean entropy of opacities of any shape, in nats: 0 where each pixel is full or empty (to a margin of 1e-3)."""
    o = opacity.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    return -(o * o.log() + (1 - o) * (1 - o).log()).mean()


def orientation(weights: Tensor, normals: Tensor, directions: Tensor, opacity: Tensor) -> Tensor:
    """Normals that face away from the camera (Ref-NeRF, eq. 11): Σ sg(w) max(0, n · d)² / count(opacity > 0).

    Args:
        weights: [S] of the samples in the volume; normals, directions: unit, [S, 3]; opacity: [R] of the rays.
    """
    away = (normals * directions).sum(-1).clamp_min(0)
    return (weights.detach() * away.square()).sum() / (opacity > 0).sum().clamp_min(1)


def depth_spread(variance: Tensor, opacity: Tensor) -> Tensor:
    """Mean variance of depth along rays that are more than half opaque; [R] each, 0 where there is no such ray."""
    solid = opacity > 0.5
    return torch.where(solid, variance, 0.0).sum() / solid.sum().clamp_min(1)
