"""Gaussians on CUDA through gsplat, behind the interface of `renderer.render`."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace

import torch
from torch import Tensor

from viewtime.errors import first_line, require
from viewtime.log import log

from .splats import NEAR, Viewpoints


@functools.cache
def gsplat_works() -> bool:
    """Whether gsplat is installed and its CUDA code can be built or is; says once who draws where it cannot."""
    if not torch.cuda.is_available():
        return False
    try:
        backend = importlib.import_module("gsplat.cuda._backend")
        reason = "finds no CUDA toolkit to compile with" if backend._C is None else ""
    except ImportError:
        reason = "is not installed (pip install 'viewtime[cuda]')"
    except (RuntimeError, OSError) as error:
        reason = f"does not compile here ({first_line(error)})"
    if reason:
        log.info("gsplat %s: Gaussians are drawn by our own rasteriser", reason)
    return not reason


def carried(means: Tensor, covariance: Tensor, views: Viewpoints) -> tuple[Tensor, Tensor, Viewpoints]:
    """The same picture with the gradient of focal length and principal point in the Gaussians.

    gsplat gives none to the intrinsics. A pin-hole camera with focal length f' and centre c' sees a point p of its own
    space as the camera with f and c sees A p, where A = [[f'/f, 0, (c'x - cx)/f], [0, f'/f, (c'y - cy)/f], [0, 0, 1]].
    Here f and c are the values of f' and c', so that A is the identity in value and carries their gradient, to the
    local affine projection too.

    Args:
        means: [B, N, 3] world. covariance: [B or 1, N, 3, 3].

    Returns:
        Both in camera space, [B, N, 3] and [B, N, 3, 3], and cameras at the origin that need no gradient.
    """
    focal, centre = views.focal.detach(), views.centre.detach()
    zoom, shift = views.focal / focal, (views.centre - centre) / focal[:, None]
    zero, one = torch.zeros_like(zoom), torch.ones_like(zoom)
    rows = [[zoom, zero, shift[:, 0]], [zero, zoom, shift[:, 1]], [zero, zero, one]]
    warp = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    affine = warp @ views.world_to_camera[:, :3]
    linear = affine[:, None, :, :3]
    moved = means @ affine[..., :3].transpose(1, 2) + affine[:, None, :, 3]
    still = torch.eye(4, device=means.device).expand(len(views), 4, 4)
    cameras = replace(views, world_to_camera=still, focal=focal, centre=centre)
    return moved, linear @ covariance @ linear.transpose(-1, -2), cameras


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
    if views.focal.requires_grad or views.centre.requires_grad:
        means, covariance, views = carried(means, covariance, views)
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
