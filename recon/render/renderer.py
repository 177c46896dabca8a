"""One call for all renderers: Gaussians in the world to pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .compiled import load_library
from .fast_cpu import composite_fast_cpu
from .fast_world import draw_isotropic
from .reference import composite_reference
from .splats import SCREEN_BLUR, Viewpoints, project


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
    """gsplat on CUDA, the compiled renderer on the CPU, the plain one where neither can be had."""
    if torch.device(device).type == "cuda":
        return "gsplat"
    return "compiled" if load_library() is not None else "reference"


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
        backend: compiled, reference or gsplat; default by device.
        screen_blur: square pixels added to every 2D covariance.
    """
    backend = backend or choose_backend(means.device)
    if backend == "gsplat":
        from .gsplat_cuda import render_gsplat

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
    composite = composite_fast_cpu if backend == "compiled" else composite_reference
    out = composite(splats, views.height, views.width)
    return Picture(out[:, :3], out[:, -1:], out[:, 3:4] if with_depth else None)
