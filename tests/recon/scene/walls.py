"""An analytic scene: a patterned wall and floor, a patterned ball that moves before them; ray-traced for any camera."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid

FOV_Y = 40.0
WALL, FLOOR, RADIUS = 1.2, -0.6, 0.28
WAY = 0.7  # of the ball over the clip


def cameras(views: int, frames: int, seed: int = 0) -> FreeCameras:
    """Beside each other, looking about +y, slightly turned and rolled; not at the origin."""
    g = torch.Generator().manual_seed(seed)
    across = torch.linspace(-0.4, 0.4, views)
    wobble = 0.1 * (torch.rand(views, 3, generator=g) - 0.5)
    place = torch.stack([across, -2.2 + wobble[:, 0], 0.1 + wobble[:, 1]], dim=1)
    forward = F.normalize(
        torch.tensor([0.0, 2.5, -0.05]) + torch.stack([-0.5 * across, 0 * across, wobble[:, 2]], 1), dim=1
    )
    right = F.normalize(torch.linalg.cross(forward, torch.tensor([0.02, 0.0, 1.0]).expand(views, 3)), dim=1)
    matrix = torch.eye(4).repeat(views, 1, 1)
    matrix[:, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=2)
    matrix[:, :3, 3] = place
    return FreeCameras.of_views(matrix, frames, FOV_Y)


def scene(seen_by: Cameras, height: int, width: int, fine: int = 3) -> tuple[FrameGrid, Tensor]:
    """RGB grid [V, F, 3, H, W] and depth along the view axis [V, F, H, W] at the pixel centres."""
    grid = _trace(seen_by, height * fine, width * fine)[0]
    smooth = rearrange(grid, "v f c (h a) (w b) -> v f c h w (a b)", a=fine, b=fine).mean(-1)
    known = torch.ones(smooth.shape[:2], dtype=torch.bool)
    return FrameGrid(smooth, known, seen_by, 8.0), _trace(seen_by, height, width)[1]


def _trace(seen_by: Cameras, height: int, width: int) -> tuple[Tensor, Tensor]:
    origin, direction = seen_by.rays(height, width)
    frames = seen_by.shape[1]
    origin = origin[:, :, None, None].expand_as(direction)
    to_wall = (WALL - origin[..., 1]) / direction[..., 1]
    to_floor = (FLOOR - origin[..., 2]) / direction[..., 2]
    floor = (to_floor > 0) & (to_floor < to_wall)
    far = torch.where(floor, to_floor, to_wall)
    hit = origin + far[..., None] * direction
    colour = _pattern(hit) * torch.where(floor[..., None], torch.tensor([0.9, 0.8, 0.5]), torch.tensor([0.7, 0.8, 0.9]))
    x = torch.linspace(-WAY / 2, WAY / 2, frames) if frames > 1 else torch.zeros(1)
    centre = torch.stack([x, 0 * x - 0.1, 0 * x - 0.1], dim=1)[None, :, None, None]
    away = origin - centre
    half = (away * direction).sum(-1)
    root = half.square() - away.square().sum(-1) + RADIUS**2
    ball = -half - root.clamp(min=0).sqrt()
    on_ball = root > 0
    surface = origin + ball[..., None] * direction - centre
    painted = _pattern(2.5 * surface + 3.0) * torch.tensor([1.0, 0.5, 0.4])
    colour = torch.where(on_ball[..., None], painted, colour)
    forward = seen_by.camera_to_world()[..., :3, 2][:, :, None, None]
    depth = torch.where(on_ball, ball, far) * (direction * forward).sum(-1)
    return rearrange(colour, "v f h w c -> v f c h w"), depth


def _pattern(points: Tensor) -> Tensor:
    """Smooth waves of several directions, each colour its own, in (0, 1)."""
    waves = torch.tensor([[5.0, 3.0, 2.0], [-2.0, 4.0, 7.0], [9.0, -5.0, 6.0], [4.0, 8.0, -11.0], [13.0, 2.0, 9.0]])
    phase = torch.tensor([0.3, 1.7, 2.9])
    values = (0.6 * points @ waves.T)[..., None] + phase
    return 0.5 + 0.09 * values.sin().sum(-2)
