"""Moving 3D scenes with known cameras, rendered by ray-sphere intersection: test content for the metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import reduce
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.grid import FrameGrid

SUPERSAMPLING = 2  # per axis


@dataclass(frozen=True)
class Spheres:
    """Striped spheres that swing about their places; all tensors float32, K spheres, world units."""

    centre: Tensor  # [K, 3]
    swing: Tensor  # [K, 3]
    phase: Tensor  # [K], radians
    radius: Tensor  # [K]
    colour: Tensor  # [K, 3]
    stripes: Tensor  # [K, 3]

    def at(self, time: float) -> Tensor:
        """Centres [K, 3] at a time in [0, 1]."""
        return self.centre + self.swing * torch.sin(2 * math.pi * time + self.phase)[:, None]

    def render(self, cameras: Cameras, size: int = 64) -> FrameGrid:
        """RGBA grid seen by the cameras; frame f of F shows time f / F."""
        V, F = cameras.shape
        origins, rays = cameras.rays(size * SUPERSAMPLING, size * SUPERSAMPLING)
        cells = [
            torch.stack([self._image(origins[v, f], rays[v, f], self.at(f / F)) for f in range(F)]) for v in range(V)
        ]
        frames = reduce(torch.stack(cells), "v f (h a) (w b) c -> v f c h w", "mean", a=SUPERSAMPLING, b=SUPERSAMPLING)
        alpha = frames[:, :, 3:]
        straight = torch.where(alpha > 0, frames[:, :, :3] / alpha.clamp(min=1e-6), torch.ones(()))
        return FrameGrid(
            torch.cat([straight.clamp(0, 1), alpha], dim=2),
            torch.ones(V, F, dtype=torch.bool),
            cameras,
            provenance={"source": "striped spheres"},
        )

    def _image(self, origin: Tensor, rays: Tensor, centres: Tensor) -> Tensor:
        """Premultiplied RGBA [H, W, 4] of one cell."""
        offset = origin - centres  # [K, 3]
        along = rays @ offset.T  # [H, W, K]
        inside = along**2 - ((offset**2).sum(-1) - self.radius**2)
        depth = torch.where(inside > 0, -along - inside.clamp(min=0).sqrt(), torch.inf)
        nearest, index = depth.min(dim=-1)
        hit = nearest < torch.inf
        point = origin + rays * torch.where(hit, nearest, 0.0)[..., None]
        normal = (point - centres[index]) / self.radius[index][..., None]
        light = torch.nn.functional.normalize(torch.tensor([0.4, -0.5, 0.77]), dim=0)
        shade = 0.55 + 0.45 * (normal @ light).clamp(min=0)
        stripe = 0.75 + 0.25 * torch.sin((normal * self.stripes[index]).sum(-1))
        rgb = self.colour[index] * (shade * stripe)[..., None]
        return torch.cat([rgb, torch.ones_like(rgb[..., :1])], dim=-1) * hit[..., None]


def random_spheres(seed: int, count: int = 9) -> Spheres:
    """A body of spheres inside the unit cube, each with its own colour, stripes and swing."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    axes = uniform(0.12, 0.34, 3)
    return Spheres(
        centre=uniform(-1, 1, count, 3) * axes,
        swing=uniform(-1, 1, count, 3) * uniform(0.03, 0.14, 1),
        phase=uniform(0, 2 * math.pi, 1) + uniform(-0.8, 0.8, count),
        radius=uniform(0.06, 0.17, count),
        colour=uniform(0.1, 0.95, count, 3),
        stripes=uniform(-9, 9, count, 3),
    )
