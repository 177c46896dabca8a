"""Isotropic Gaussians from the world to pictures in one compiled call: the fit spends most of its time here."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .compiled import load_library
from .fast_cpu import MAXIMUM_CHANNELS, SUFFIX, addresses
from .splats import MAXIMUM_ALPHA, MINIMUM_ALPHA, MINIMUM_TRANSMITTANCE, NEAR, Viewpoints


class _Draw(torch.autograd.Function):
    """Every tensor whose address the kernel gets is held by a local name until the call is over."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, height, width, screen_blur = arguments
        inputs = [tensor.contiguous() for tensor in tensors]
        B, N, _ = inputs[0].shape
        C = inputs[6].shape[-1]
        out = inputs[0].new_empty(B, C + 1, height, width)
        size = (ctypes.c_int64 * 6)(B, N, C, height, width, torch.get_num_threads())
        limit = (ctypes.c_double * 5)(MINIMUM_ALPHA, MAXIMUM_ALPHA, NEAR, MINIMUM_TRANSMITTANCE, screen_blur)
        function = getattr(load_library(), f"world_forward_{SUFFIX[out.dtype]}")
        function(size, limit, addresses(inputs), ctypes.c_void_p(out.data_ptr()))
        ctx.save_for_backward(*inputs, out)
        ctx.size, ctx.limit = size, limit
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out = ctx.saved_tensors
        grad_out = grads[0].contiguous()
        mean, _, _, _, focal, centre, feature = inputs
        B, N, _ = mean.shape
        results = [
            torch.empty_like(mean), mean.new_empty(B, N), mean.new_empty(B, N), mean.new_empty(B, N, feature.shape[-1]),
            torch.empty_like(focal), torch.empty_like(centre),
        ]  # fmt: skip
        function = getattr(load_library(), f"world_backward_{SUFFIX[out.dtype]}")
        function(
            ctx.size, ctx.limit, addresses(inputs), ctypes.c_void_p(out.data_ptr()),
            ctypes.c_void_p(grad_out.data_ptr()), addresses(results),
        )  # fmt: skip
        g_mean, g_variance, g_opacity, g_feature, g_focal, g_centre = results
        summed = g_variance.sum(0), g_opacity.sum(0), None, g_focal, g_centre, g_feature.sum(0)
        return g_mean, *summed, None, None, None


def draw_isotropic(
    means: Tensor, variance: Tensor, opacity: Tensor, feature: Tensor, views: Viewpoints, screen_blur: float
) -> Tensor:
    """As `project` and `composite_reference` one after the other, for Gaussians that look the same in all pictures.

    Args:
        means: [B, N, 3] world. variance, opacity: [N]. feature: [N, C].
        screen_blur: square pixels added to every 2D covariance.

    Returns:
        [B, C + 1, H, W]; premultiplied features and, last, the accumulated alpha.

    Raises:
        ValueError: more than 8 feature channels, another precision, or tensors that are not on the CPU.
    """
    if feature.shape[-1] > MAXIMUM_CHANNELS:
        raise ValueError(f"{feature.shape[-1]} feature channels; the compiled renderer takes {MAXIMUM_CHANNELS}")
    if means.dtype not in SUFFIX or means.device.type != "cpu":
        raise ValueError(f"{means.dtype} on {means.device}; the compiled renderer takes floats on the CPU")
    cameras = [value.to(means.dtype) for value in (views.world_to_camera, views.focal, views.centre)]
    result = _Draw.apply(means, variance, opacity, *cameras, feature, views.height, views.width, screen_blur)
    assert isinstance(result, Tensor)
    return result
