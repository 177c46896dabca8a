"""What of a grid's pictures never changes, and what moves before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .frame_points import FramePoints

MOVING_SHARE = 0.5  # of the views that show a point, in which it must lie on changing pixels


def still_pictures(frames: Tensor) -> Tensor:
    """[V, F, 3, H, W] -> [V, 3, H, W]: the median over the frames, behind what moves away from its place."""
    return frames.median(dim=1).values


def changing(frames: Tensor, still: Tensor, threshold: float) -> Tensor:
    """[V, F, H, W] bool: where a frame differs from the still picture, widened by a pixel; single pixels are noise."""
    V = len(frames)
    differs = ((frames - still[:, None]).abs().amax(dim=2) > threshold).float()
    flat = rearrange(differs, "v f h w -> (v f) 1 h w")
    firm = F.avg_pool2d(flat, 3, stride=1, padding=1) > 0.4
    widened = F.max_pool2d((firm & (flat > 0)).float(), 3, stride=1, padding=1) > 0
    return rearrange(widened, "(v f) 1 h w -> v f h w", v=V)


def on_changing(points: FramePoints, focal: Tensor, centre: Tensor, changed: Tensor) -> Tensor:
    """[N] bool: points that most of the views which show them show on changing pixels.

    Args:
        focal: [V] pixels. centre: [V, 2] pixels. changed: [V, H, W] bool, of the tracked instant.
    """
    V, H, W = changed.shape
    depth = points.places[..., 2:].clamp(min=1e-6)
    pixels = (points.places[..., :2] / depth * focal[:, None, None] + centre[:, None]).floor().long()
    inside = points.visible & (pixels >= 0).all(-1) & (pixels[..., 0] < W) & (pixels[..., 1] < H)
    view = torch.arange(V)[:, None].expand(pixels.shape[:2])
    hit = changed[view, pixels[..., 1].clamp(0, H - 1), pixels[..., 0].clamp(0, W - 1)] & inside
    return hit.sum(0) > MOVING_SHARE * inside.sum(0).clamp(min=1)
