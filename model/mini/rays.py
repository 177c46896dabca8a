"""Cameras, rays and compositing of mini's volumes.

Lengths are counted in half heights of the picture at the orbit's centre, so the camera's distance is not needed: a
point at (X, Y, Z) of a camera's axes (Z towards the object's far side) is seen at X / (1 + Z · tan(fov / 2)).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from viewtime.cameras import DEFAULT_FOV_Y

SLOPE = math.tan(math.radians(DEFAULT_FOV_Y) / 2)
FAINT = 1e-3  # optical depth of a sample below which a cell counts as empty


def slope_of(fov_y: Tensor) -> Tensor:
    """tan(fov / 2) of vertical fields of view in degrees, same shape."""
    return torch.tan(torch.deg2rad(fov_y.float()) / 2)


def camera_axes(elevation: Tensor, azimuth: Tensor) -> Tensor:
    """Rows right, down, forward of orbit cameras (`viewtime.cameras`): degrees [...] -> [..., 3, 3]."""
    e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    zero = torch.zeros_like(a)
    right = torch.stack([a.cos(), a.sin(), zero], dim=-1)
    forward = torch.stack([-e.cos() * a.sin(), e.cos() * a.cos(), -e.sin()], dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)


def voxel_centres(side: int, depths: int, device: torch.device) -> Tensor:
    """(x, y, z) of the centres of depths × side × side voxels of [-1, 1]³: [z, y, x, 3]."""
    z, across = ((torch.arange(count, device=device) + 0.5) / count * 2 - 1 for count in (depths, side))
    z, y, x = torch.meshgrid(z, across, across, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def ray_points(side: int, depths: int, device: torch.device) -> Tensor:
    """Points of the rays of side × side pixels, in a camera's axes, at so many depths: [Z, y, x, 3]."""
    rays = voxel_centres(side, depths, device)
    Z = rays[..., 2:]
    return torch.cat([rays[..., :2] * (1 + SLOPE * Z), Z], dim=-1)


def ray_weights(density: Tensor, dim: int) -> Tensor:
    """Share of each sample of a ray in its pixel, from the densities in order of depth along `dim`."""
    through = torch.exp(-(density.cumsum(dim) - density))
    return through * (1 - torch.exp(-density))


@torch.compiler.disable
def sample_volume(volume: Tensor, points: Tensor) -> Tensor:
    """Trilinear samples [N, C, ...] of [N, C, D, H, W]; outside it is 0. Compiled it is slower on the CPU."""
    return F.grid_sample(volume, points, align_corners=False)
