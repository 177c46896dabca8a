"""The compiled CPU renderer as a differentiable torch function: Gaussians in the world to pictures in one call."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .compiled import load_library
from .splats import MAXIMUM_ALPHA, MINIMUM_ALPHA, MINIMUM_TRANSMITTANCE, NEAR, Viewpoints, rows_of
from .threads import kernel_threads

MAXIMUM_CHANNELS = 8
SUFFIX = {torch.float32: "float32", torch.float64: "float64"}


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    """The tensor's memory; the caller keeps the tensor alive."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _addresses(tensors: list[Tensor | None]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[_address(tensor) for tensor in tensors])


class _Draw(torch.autograd.Function):
    """Every tensor whose address the kernel gets is held by a local name until the call is over."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, height, width, screen_blur = arguments
        inputs: list[Any] = [None if tensor is None else tensor.contiguous() for tensor in tensors]
        means, covariance, linear, opacity, feature, _, focal, _ = inputs
        B, N, C = len(focal), means.shape[1], feature.shape[-1]
        rows = [0 if tensor is None else len(tensor) for tensor in (means, covariance, linear, opacity, feature)]
        threads, entries = kernel_threads(), 1 if covariance.shape[-1] == 1 else 9
        ctx.size = (ctypes.c_int64 * 12)(B, N, C, height, width, threads, entries, *rows)
        ctx.limit = (ctypes.c_double * 5)(MINIMUM_ALPHA, MAXIMUM_ALPHA, NEAR, MINIMUM_TRANSMITTANCE, screen_blur)
        out, suffix = means.new_empty(B, C + 1, height, width), SUFFIX[means.dtype]
        library: Any = load_library()
        sorted_ = torch.empty(B * N * getattr(library, f"flat_bytes_{suffix}")(), dtype=torch.uint8)
        count = torch.empty(B, dtype=torch.int64)
        function = getattr(library, f"splat_forward_{suffix}")
        function(ctx.size, ctx.limit, _addresses(inputs), _address(out), _address(sorted_), _address(count))
        ctx.save_for_backward(*inputs, out, sorted_, count)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out, sorted_, count = ctx.saved_tensors
        grad_out = grads[0].contiguous()
        *gaussians, _, focal, centre = inputs
        results = [None if tensor is None else torch.empty_like(tensor) for tensor in (*gaussians, focal, centre)]
        function = getattr(load_library(), f"splat_backward_{SUFFIX[out.dtype]}")
        function(
            ctx.size, ctx.limit, _addresses(inputs), _address(out), _address(sorted_), _address(count),
            _address(grad_out), _addresses(results),
        )  # fmt: skip
        return *results[:5], None, *results[5:], None, None, None


def draw_compiled(
    means: Tensor,
    covariance: Tensor,
    opacity: Tensor,
    feature: Tensor,
    views: Viewpoints,
    screen_blur: float,
    linear: Tensor | None = None,
) -> Tensor:
    """As `project` and `composite_reference` one after the other; one thread per image, up to `kernel_threads`.

    Args:
        means: [R, N, 3] world. covariance: [R, N, 1] or [R, N, 3, 3], symmetric. opacity: [R, N]. feature: [R, N, C].
            linear: [R, N, 3, 3]. Rows belong to runs of consecutive images, see `rows_of`.
        screen_blur: square pixels added to every 2D covariance.

    Returns:
        [B, C + 1, H, W]; premultiplied features and, last, the accumulated alpha. The cameras' matrices get no
        gradient.

    Raises:
        ValueError: more than 8 feature channels, another precision, or tensors that are not on the CPU.
        UserError: shapes that do not fit each other.
    """
    if feature.shape[-1] > MAXIMUM_CHANNELS:
        raise ValueError(f"{feature.shape[-1]} feature channels; the compiled renderer takes {MAXIMUM_CHANNELS}")
    if means.dtype not in SUFFIX or means.device.type != "cpu":
        raise ValueError(f"{means.dtype} on {means.device}; the compiled renderer takes floats on the CPU")
    rows_of(means, covariance, opacity, feature, linear, len(views))
    inputs = (means, covariance, linear, opacity, feature, views.world_to_camera, views.focal, views.centre)
    tensors = [None if tensor is None else tensor.to(means.dtype) for tensor in inputs]
    result = _Draw.apply(*tensors, views.height, views.width, screen_blur)
    assert isinstance(result, Tensor)
    return result
