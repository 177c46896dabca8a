"""One call for all renderers: Gaussians in the world to pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .compiled import SOURCE
from .fast_cpu import composite_fast_cpu
from .fast_world import draw_isotropic
from .gsplat_cuda import gsplat_works, render_gsplat
from .reference import composite_reference
from .splats import SCREEN_BLUR, Splats, Viewpoints, project
from .warp_kernels import choose_kernel


@dataclass(frozen=True)
class Picture:
    """rgb [B, 3, H, W] premultiplied by alpha [B, 1, H, W]; depth [B, 1, H, W] along the view axis, times alpha."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None = None

    def on(self, background: float = 1.0) -> Tensor:
        """Over a grey level, [B, 3, H, W]."""
        return self.rgb + background * (1 - self.alpha)


def choose_backend(device: torch.device | str) -> str:
    """gsplat on CUDA where it works, else Warp; compiled on the CPU, else Warp; plain torch where none can be had."""
    device = torch.device(device)
    if device.type == "cuda" and gsplat_works():
        return "gsplat"
    return choose_kernel(device, SOURCE)


def _composite(backend: str, splats: Splats, height: int, width: int) -> Tensor:
    if backend == "compiled":
        return composite_fast_cpu(splats, height, width)
    if backend == "warp" and splats.mean.dtype == torch.float32:
        from .splat_warp import composite_warp

        return composite_warp(splats, height, width)
    return composite_reference(splats, height, width)


def render(
    means: Tensor,
    covariance: Tensor,
    opacity: Tensor,
    colour: Tensor,
    views: Viewpoints,
    *,
    with_depth: bool = False,
    backend: str | None = None,
    screen_blur: float = SCREEN_BLUR,
) -> Picture:
    """Draw N Gaussians into B pictures.

    Args:
        means: [B, N, 3] world. covariance: [B or 1, N, 1] variances or [B or 1, N, 3, 3]. opacity: [B or 1, N].
        colour: [B or 1, N, 3].
        backend: compiled, warp, gsplat or reference; default by device.
        screen_blur: square pixels added to every 2D covariance.
    """
    backend = backend or choose_backend(means.device)
    if backend == "gsplat":
        return Picture(*render_gsplat(means, covariance, opacity, colour, views, with_depth, screen_blur))
    shared = covariance.shape[0] == opacity.shape[0] == colour.shape[0] == 1
    if backend == "compiled" and covariance.shape[-1] == 1 and shared and not with_depth:
        out = draw_isotropic(means, covariance[0, :, 0], opacity[0], colour[0], views, screen_blur)
        return Picture(out[:, :3], out[:, -1:])
    feature = colour.expand(len(views), -1, -1)
    if with_depth:
        z = (means @ views.world_to_camera[:, 2, :3, None])[..., 0] + views.world_to_camera[:, 2, 3, None]
        feature = torch.cat([feature, z[..., None]], dim=-1)
    splats = project(means, covariance, opacity, feature, views, screen_blur)
    out = _composite(backend, splats, views.height, views.width)
    return Picture(out[:, :3], out[:, -1:], out[:, 3:4] if with_depth else None)
