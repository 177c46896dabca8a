"""Gaussians on CUDA through gsplat, behind the interface of `renderer.render`."""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.errors import require

from .splats import NEAR, Viewpoints


def render_gsplat(
    means: Tensor,
    covariance: Tensor,
    opacity: Tensor,
    colour: Tensor,
    views: Viewpoints,
    with_depth: bool,
    screen_blur: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """rgb [B, 3, H, W] premultiplied, alpha [B, 1, H, W], depth times alpha or None.

    One batch entry per picture, because every picture may show another instant.
    """
    rasterization = require("gsplat", "cuda").rasterization
    B, N, _ = means.shape
    if covariance.shape[-1] == 1:
        covariance = covariance[..., None] * torch.eye(3, device=means.device)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], device=means.device).expand(B, N, 4)
    intrinsics = torch.zeros(B, 1, 3, 3, device=means.device)
    intrinsics[:, 0, 0, 0] = intrinsics[:, 0, 1, 1] = views.focal
    intrinsics[:, 0, :2, 2], intrinsics[:, 0, 2, 2] = views.centre, 1.0
    out, alpha, _ = rasterization(
        means, identity, torch.ones_like(means), opacity.expand(B, N), colour.expand(B, N, 3),
        views.world_to_camera[:, None], intrinsics, views.width, views.height, near_plane=NEAR, eps2d=screen_blur,
        packed=False, render_mode="RGB+D" if with_depth else "RGB", rasterize_mode="antialiased",
        covars=covariance.expand(B, N, 3, 3),
    )  # fmt: skip
    channels = out[:, 0].permute(0, 3, 1, 2)
    depth = channels[:, 3:4] if with_depth else None
    return channels[:, :3], alpha[:, 0].permute(0, 3, 1, 2), depth
