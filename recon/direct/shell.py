"""A solid of the generator as Gaussians: one for each cell of its shell, flat or long as the cell is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.model.mini.rays import camera_axes, slope_of

# Of the pictures of a solid those of its shell differ least with these (24 dB; 20 dB with cells of 0.7 edges):
SIGMA_PER_CELL = 0.5  # standard deviation in edges of a cell
LEAST = 0.15  # density of a cell that counts
OPAQUE = 0.97  # opacity of the densest


@dataclass(frozen=True)
class Shell:
    """Gaussians of one frame.

    Attributes:
        position: world [N, 3]. covariance: [N, 3, 3]. opacity: [N] in (0, 1). colour: [N, 3] in [0, 1].
    """

    position: Tensor
    covariance: Tensor
    opacity: Tensor
    colour: Tensor

    def __len__(self) -> int:
        return len(self.position)

    def some(self, chosen: Tensor) -> Shell:
        """The Gaussians with these numbers."""
        return Shell(self.position[chosen], self.covariance[chosen], self.opacity[chosen], self.colour[chosen])


def shell_of(solid: Tensor, cameras: Cameras, frame: int) -> Shell:
    """The cells of a solid that are dense enough and have a neighbour that is not.

    Args:
        solid: colour in [0, 1] and density per cell of the input camera's frustum, [4, D, R, R].
        cameras: of the input, [1, F]; `frame` is the solid's.

    Raises:
        UserError: no cell is dense enough.
    """
    density = solid[3]
    inside = density > LEAST
    outside = F.max_pool3d((~F.pad(inside, (1, 1, 1, 1, 1, 1))).float()[None, None], 3, stride=1)[0, 0] > 0
    z, y, x = (inside & outside).nonzero(as_tuple=True)
    if len(z) < 4:
        raise UserError(f"frame {frame}: the generator sees no solid in it; is the object in the picture?")
    D, R = density.shape[:2]
    slope = float(slope_of(torch.tensor(cameras.fov_y)))
    half = slope * float(cameras.distance[0, frame])  # of the picture's height, in world units at the orbit's centre
    depth = (z + 0.5) / D * 2 - 1
    wider = 1 + slope * depth
    right, down = ((values + 0.5) / R * 2 - 1 for values in (x, y))
    axes = camera_axes(cameras.elevation[0, frame], cameras.azimuth[0, frame])
    position = half * torch.stack([right * wider, down * wider, depth], dim=1) @ axes
    # A cell leans: its far face is wider, so its depth runs along the ray through it.
    ray = F.normalize(torch.stack([slope * right, slope * down, torch.ones_like(depth)], dim=1), dim=1) @ axes
    across = (half * 2 / R * SIGMA_PER_CELL * wider) ** 2
    along = (half * 2 / D * SIGMA_PER_CELL) ** 2
    lean = rearrange(ray, "n i -> n i 1") * rearrange(ray, "n j -> n 1 j")
    covariance = across[:, None, None] * (torch.eye(3) - lean) + along * lean
    opacity = (1 - torch.exp(-density[z, y, x])).clamp(max=OPAQUE)
    return Shell(position, covariance, opacity, solid[:3, z, y, x].T.clamp(0, 1))
