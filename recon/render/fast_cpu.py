"""The compiled CPU renderer as a differentiable torch function."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .compiled import load_library
from .splats import MAXIMUM_ALPHA, MINIMUM_ALPHA, MINIMUM_TRANSMITTANCE, NEAR, Splats

MAXIMUM_CHANNELS = 8
SUFFIX = {torch.float32: "float32", torch.float64: "float64"}


def addresses(tensors: list[Tensor]) -> Any:
    """The tensors' memory as a C array of pointers; the caller keeps the tensors alive."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


class _Composite(torch.autograd.Function):
    """Every tensor whose address the kernel gets is held by a local name until the call is over."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, conic: Tensor, opacity: Tensor, depth: Tensor, feature: Tensor, height: int, width: int
    ) -> Tensor:
        inputs = [tensor.contiguous() for tensor in (mean, conic, opacity, depth, feature)]
        B, N, C = feature.shape
        out = mean.new_empty(B, C + 1, height, width)
        size = (ctypes.c_int64 * 6)(B, N, C, height, width, torch.get_num_threads())
        limit = (ctypes.c_double * 4)(MINIMUM_ALPHA, MAXIMUM_ALPHA, NEAR, MINIMUM_TRANSMITTANCE)
        function = getattr(load_library(), f"splat_forward_{SUFFIX[mean.dtype]}")
        function(size, limit, addresses(inputs), ctypes.c_void_p(out.data_ptr()))
        ctx.save_for_backward(*inputs, out)
        ctx.size, ctx.limit = size, limit
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out = ctx.saved_tensors
        grad_out = grads[0].contiguous()
        mean, conic, opacity, _, feature = inputs
        results = [torch.empty_like(tensor) for tensor in (mean, conic, opacity, feature)]
        function = getattr(load_library(), f"splat_backward_{SUFFIX[out.dtype]}")
        function(
            ctx.size, ctx.limit, addresses(inputs), ctypes.c_void_p(out.data_ptr()),
            ctypes.c_void_p(grad_out.data_ptr()), addresses(results),
        )  # fmt: skip
        return results[0], results[1], results[2], None, results[3], None, None


def composite_fast_cpu(splats: Splats, height: int, width: int) -> Tensor:
    """As `composite_reference`, in compiled code; [B, C + 1, H, W]. One thread per image, up to torch's number.

    Raises:
        ValueError: more than 8 feature channels, another precision, or tensors that are not on the CPU.
    """
    if splats.feature.shape[-1] > MAXIMUM_CHANNELS:
        raise ValueError(f"{splats.feature.shape[-1]} feature channels; the compiled renderer takes {MAXIMUM_CHANNELS}")
    if splats.mean.dtype not in SUFFIX or splats.mean.device.type != "cpu":
        raise ValueError(f"{splats.mean.dtype} on {splats.mean.device}; the compiled renderer takes floats on the CPU")
    result = _Composite.apply(splats.mean, splats.conic, splats.opacity, splats.depth, splats.feature, height, width)
    assert isinstance(result, Tensor)
    return result
