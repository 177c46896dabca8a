"""One call for all renderers: Gaussians in the world to pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.errors import UserError

from .compiled import SOURCE
from .fast_cpu import draw_compiled
from .gsplat_cuda import gsplat_works, render_gsplat
from .reference import composite_reference
from .splats import SCREEN_BLUR, Splats, Viewpoints, posed, project, spread
from .warp_kernels import choose_kernel


@dataclass(frozen=True)
class Picture:
    """rgb [B, 3, H, W] premultiplied by alpha [B, 1, H, W]; depth [B, 1, H, W] along the view axis, times alpha.

    `drawn` [B, 4, H, W] is rgb and alpha in one tensor, where they were drawn so.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None = None
    drawn: Tensor | None = None

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
    linear: Tensor | None = None,
) -> Picture:
    """Draw N Gaussians into B pictures.

    Args:
        means: [R, N, 3] world. covariance: [R, N, 1] variances or [R, N, 3, 3]. opacity: [R, N]. colour: [R, N, 3].
            R may differ: 1, B, or a divisor of B, whose rows serve runs of consecutive pictures.
        backend: compiled, warp, gsplat or reference; default by device.
        screen_blur: square pixels added to every 2D covariance.
        linear: [R, N, 3, 3], what the motion does to the neighbourhood of each Gaussian that is no ball: its covariance
            becomes linear · covariance · linear^T.

    Raises:
        UserError: the tensors do not have these shapes.
    """
    if linear is not None and covariance.shape[-1] == 1:
        raise UserError("Gaussians of one size each stay balls: no `linear`")
    backend, B = backend or choose_backend(means.device), len(views)
    if backend == "gsplat":
        means, opacity, colour = (spread(value, B) for value in (means, opacity, colour))
        covariance = posed(covariance, linear, B)
        return Picture(*render_gsplat(means, covariance, opacity, colour, views, with_depth, screen_blur))
    feature = colour
    if with_depth:
        z = (spread(means, B) @ views.world_to_camera[:, 2, :3, None])[..., 0] + views.world_to_camera[:, 2, 3, None]
        feature = torch.cat([spread(colour, B), z[..., None]], dim=-1)
    if backend == "compiled":
        out = draw_compiled(means, covariance, opacity, feature, views, screen_blur, linear)
    else:
        splats = project(means, covariance, opacity, feature, views, screen_blur, linear)
        out = _composite(backend, splats, views.height, views.width)
    return Picture(out[:, :3], out[:, -1:], *((out[:, 3:4], None) if with_depth else (None, out)))
