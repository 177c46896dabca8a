"""Small true-4D scenes by ray casting, and the pseudo-4D form of their fixed-view videos.

A scene is a checkered floor under a painted sky and two or three two-coloured balls that bounce, sway and roll.
A grid sees it from V places on an arc; every random number comes from the scene's own seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from viewtime.cameras import regular_orbit
from viewtime.data.pseudo4d import draw_move, view_amounts, warp_views
from viewtime.data.samples import generator_for

FLOOR = -0.55
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Balls:
    """K balls at F instants: centres [F, K, 3], radii [K], turns [F, K] radians, colours [K, 2, 3]."""

    centres: Tensor
    radii: Tensor
    turns: Tensor
    colours: Tensor


def draw_balls(rng: np.random.Generator, frames: int) -> Balls:
    """Balls that bounce and sway periodically and roll at a constant rate."""
    count = int(rng.integers(2, 4))
    time = np.arange(frames)[:, None] / 4.0
    radii = rng.uniform(0.28, 0.45, size=count)
    phase, rate = rng.uniform(0, 2 * np.pi, size=(3, count)), rng.uniform(0.6, 1.6, size=(3, count))
    place = rng.uniform(-0.6, 0.6, size=(2, count))
    sway = rng.uniform(0.1, 0.35, size=(2, count))
    x = place[0] + sway[0] * np.sin(rate[0] * time + phase[0])
    y = place[1] + sway[1] * np.sin(rate[1] * time + phase[1])
    z = FLOOR + radii + 0.6 * np.abs(np.sin(rate[2] * time + phase[2]))
    turns = phase[0] + time * rng.uniform(-2, 2, size=count)

    def to_tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values)).float()

    return Balls(
        to_tensor(np.stack([x, y, z], axis=-1)), to_tensor(radii), to_tensor(turns),
        to_tensor(rng.uniform(0, 1, size=(count, 2, 3))),
    )  # fmt: skip


def true_grid(seed: int, index: int, views: int, frames: int, size: tuple[int, int]) -> Tensor:
    """Scene `index` from an arc of 8 to 20 degrees a view, [V, F, 3, H, W] in [-1, 1]."""
    rng = generator_for(seed, index, 1)
    balls = draw_balls(rng, frames)
    step = float(rng.uniform(8, 20)) * float(rng.choice([-1, 1]))
    cameras = regular_orbit(
        views, 1, elevation=float(rng.uniform(5, 25)), distance=2.3, fov_y=45.0,
        azimuth_start=float(rng.uniform(0, 360)), azimuth_range=step * views,
    )  # fmt: skip
    floor, sky = (torch.from_numpy(rng.uniform(0, 1, size=(2, 3))).float() for _ in range(2))
    origins, directions = cameras.rays(size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE)
    image = _background(origins[:, 0], directions[:, 0], floor, sky, rng)
    image, depth = image[0].expand(frames, -1, -1, -1, -1), image[1].expand(frames, -1, -1, -1)
    for ball in range(len(balls.radii)):
        image, depth = _draw_ball(image, depth, origins[:, 0], directions[:, 0], balls, ball)
    pixels = rearrange(image, "f v h w c -> (v f) c h w")
    pixels = functional.avg_pool2d(pixels, SUPERSAMPLE) * 2 - 1
    return rearrange(pixels, "(v f) c h w -> v f c h w", f=frames)


def _background(
    origins: Tensor, rays: Tensor, floor: Tensor, sky: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Floor and sky seen along rays [V, H, W, 3]: (colour [V, H, W, 3], depth [V, H, W])."""
    distance = (FLOOR - origins[:, None, None, 2]) / rays[..., 2].clamp(max=-1e-3)
    distance = torch.where(rays[..., 2] < -1e-3, distance, torch.full_like(distance, 1e3))
    hit = origins[:, None, None] + distance[..., None] * rays
    odd = (torch.floor(hit[..., 0] * 0.8) + torch.floor(hit[..., 1] * 0.8)).remainder(2)
    # Far off the checks are smaller than a pixel: fade to their mean.
    contrast = torch.exp(-0.15 * distance) * (odd - 0.5) + 0.5
    ground = torch.lerp(floor[0], floor[1], contrast[..., None])
    around = torch.atan2(rays[..., 0], -rays[..., 1])
    waves = torch.sin(2 * around + float(rng.uniform(0, 6)) + 3 * rays[..., 2]) / 2 + 0.5
    painted = torch.lerp(sky[0], sky[1], waves[..., None])
    far = (distance > 12)[..., None]
    return torch.where(far, painted, ground), distance


def _draw_ball(
    image: Tensor, depth: Tensor, origins: Tensor, rays: Tensor, balls: Balls, ball: int
) -> tuple[Tensor, Tensor]:
    """Put one ball into images [F, V, H, W, 3] where it is nearer than depth [F, V, H, W]."""
    offset = origins[None, :, None, None] - balls.centres[:, ball][:, None, None, None]
    along = (offset * rays).sum(-1)
    inside = along.square() - offset.square().sum(-1) + balls.radii[ball].square()
    distance = -along - inside.clamp_min(0).sqrt()
    normal = (offset + distance[..., None] * rays) / balls.radii[ball]
    turn = balls.turns[:, ball][:, None, None, None]
    side = normal[..., 0] * turn.cos() + normal[..., 1] * turn.sin() > 0
    colour = torch.where(side[..., None], balls.colours[ball, 0], balls.colours[ball, 1])
    light = 0.45 + 0.55 * (normal * torch.tensor([0.4, -0.4, 0.82])).sum(-1).clamp_min(0)
    nearer = (inside > 0) & (distance > 0) & (distance < depth)
    return torch.where(nearer[..., None], colour * light[..., None], image), torch.where(nearer, distance, depth)


def pseudo_grid(seed: int, index: int, views: int, frames: int, size: tuple[int, int]) -> Tensor:
    """A fixed-view video of a scene under a 2D affine camera move (section 3.3), [V, F, 3, H, W] in [-1, 1]."""
    video = true_grid(seed, index, 1, frames, size)[0]
    rng = generator_for(seed, index, 2)
    frames_uint8 = ((video + 1) * 127.5).round().to(torch.uint8)
    warped = warp_views(frames_uint8, draw_move(rng), view_amounts(rng, views))
    return warped.float() / 127.5 - 1
