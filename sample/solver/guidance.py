"""Classifier-free guidance with a scale per cell and an interval of noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError

GuidanceKind = Literal["none", "constant", "linear", "triangle", "trapezoid", "spatio-temporal"]
TRAPEZOID_EDGE = 0.1  # share of the cells over which the scale rises, and again falls


@dataclass(frozen=True)
class Guidance:
    """D = D_u + scale · (D_c − D_u), scale between `low` and `high` over the cells of a window.

    Attributes:
        kind: the course of the scale. linear, triangle and trapezoid run over all cells in the published row
            order (frame by frame, all views of a frame together); spatio-temporal is SV4D's: half a line over
            frames plus half a triangle over views. constant uses `high` everywhere; none uses D_c alone.
        interval: guide only while sigma lies in it, ends included; elsewhere D_c alone, which saves the
            unconditional evaluation.
    """

    kind: GuidanceKind = "none"
    low: float = 1.0
    high: float = 2.0
    interval: tuple[float, float] = (0.0, math.inf)

    def active(self, sigma: float) -> bool:
        """Whether the unconditional prediction is needed at that level."""
        return self.kind != "none" and self.interval[0] <= sigma <= self.interval[1]

    def scale(self, views: int, frames: int) -> Tensor:
        """Guidance scale per cell [V, F], frames in the order in which the network sees them."""
        cells = views * frames
        if self.kind == "none":
            return torch.ones(views, frames)
        if self.kind == "constant":
            return torch.full((views, frames), self.high)
        if self.kind == "linear":
            return rearrange(torch.linspace(self.low, self.high, cells), "(f v) -> v f", v=views)
        if self.kind == "triangle":
            weight = rearrange(_triangle(torch.linspace(0, 1, cells)), "(f v) -> v f", v=views)
        elif self.kind == "trapezoid":
            weight = rearrange(_trapezoid(torch.linspace(0, 1, cells)), "(f v) -> v f", v=views)
        elif self.kind == "spatio-temporal":
            line = torch.linspace(0, 1, frames)
            weight = 0.5 * line[None, :] + 0.5 * _triangle(torch.linspace(0, 1, views))[:, None]
        else:
            raise UserError(f"unknown guidance {self.kind!r}; one of: {', '.join(GuidanceKind.__args__)}")
        return self.low + (self.high - self.low) * weight


def _triangle(position: Tensor) -> Tensor:
    """0 at both ends of [0, 1], 1 in the middle."""
    return 2 * (position - torch.floor(position + 0.5)).abs()


def _trapezoid(position: Tensor) -> Tensor:
    """Rises from 0 to 1 over the first edge, stays, falls over the last."""
    return torch.minimum(position, 1 - position).div(TRAPEZOID_EDGE).clamp(max=1.0)


def combine(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Guided prediction.

    Args:
        conditional, unconditional: x0 predictions [B, V, F, C, H, W].
        scale: [V, F] or [B, V, F].
    """
    return unconditional + scale.to(conditional)[..., None, None, None] * (conditional - unconditional)
