"""An analytic scene: coloured ellipsoids that move, ray-traced; the truth for any camera and instant."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from einops import rearrange

from viewtime.cameras import Cameras, regular_orbit
from viewtime.grid import FrameGrid
from viewtime.recon.surface.mesh import MovingMesh

# centre, half axes, colour, and how far each moves over the clip
BODIES = [
    ((0.0, 0.0, 0.0), (0.16, 0.34, 0.16), (0.8, 0.3, 0.2), (0.0, 0.0, 0.04)),
    ((0.0, -0.33, 0.18), (0.10, 0.11, 0.12), (0.2, 0.4, 0.8), (0.06, 0.0, 0.06)),
    ((0.12, 0.2, -0.2), (0.06, 0.06, 0.16), (0.2, 0.7, 0.3), (0.0, 0.14, 0.0)),
    ((-0.12, 0.2, -0.2), (0.06, 0.06, 0.16), (0.7, 0.7, 0.2), (0.0, -0.14, 0.0)),
]


def ellipsoid_grid(cameras: Cameras, size: int, supersample: int = 3) -> FrameGrid:
    """RGBA grid [V, F, 4, size, size] of the scene."""
    V, F = cameras.shape
    fine = size * supersample
    origins, directions = cameras.rays(fine, fine)
    cells = torch.empty(V, F, 4, size, size)
    for f in range(F):
        swing = torch.sin(torch.tensor(3.0 * f / max(1, F - 1)))
        for v in range(V):
            nearest = torch.full((fine, fine), 1e9)
            colour = torch.zeros(fine, fine, 3)
            for centre, half, paint, path in BODIES:
                half_axes = torch.tensor(half)
                o = (origins[v, f] - torch.tensor(centre) - swing * torch.tensor(path)) / half_axes
                d = directions[v, f] / half_axes
                a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 1
                root = b * b - a * c
                t = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, torch.full_like(a, 1e9))
                normal = (o + t[..., None] * d) / half_axes
                normal = normal / normal.norm(dim=-1, keepdim=True)
                shade = 0.7 + 0.3 * normal[..., 2:]
                hit = t < nearest
                nearest = torch.where(hit, t, nearest)
                colour = torch.where(hit[..., None], shade * torch.tensor(paint), colour)
            alpha = (nearest < 1e8).float()
            coverage = _shrink(alpha[..., None], supersample)
            premultiplied = _shrink(colour * alpha[..., None], supersample)
            cells[v, f] = rearrange(
                torch.cat([premultiplied / coverage.clamp(min=1e-6), coverage], -1), "h w c -> c h w"
            )
    return FrameGrid(cells, torch.ones(V, F, dtype=torch.bool), cameras, 12.0, {"source": "ellipsoids"})


def training_grid(views: int = 6, frames: int = 5, size: int = 64) -> FrameGrid:
    """Views evenly around at 12 degrees elevation."""
    return ellipsoid_grid(regular_orbit(views, frames), size)


def unseen_grid(frames: int = 5, size: int = 64) -> FrameGrid:
    """Three views between those of `training_grid(6)`."""
    return ellipsoid_grid(regular_orbit(3, frames, azimuth_start=30.0), size)


def ball(frames: int = 2, subdivisions: int = 3, radius: float = 0.3) -> MovingMesh:
    """A sphere that moves sideways and is coloured by its normal."""
    shape = trimesh.creation.icosphere(subdivisions, radius)
    vertices = np.asarray(shape.vertices)
    positions = np.stack([vertices + np.array([0.1, 0, 0]) * f for f in range(frames)]).astype(np.float32)
    colour = 0.5 + 0.4 * vertices / radius
    return MovingMesh(positions, np.asarray(shape.faces, np.int64), colour.astype(np.float32), 10.0)


def _shrink(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    return rearrange(pixels, "(h a) (w b) c -> h a w b c", a=factor, b=factor).mean((1, 3))
