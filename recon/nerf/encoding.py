"""Grid features at points: the compiled encoder on the CPU, Warp on CUDA, plain torch where neither can be had."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.warp_kernels import choose_kernel

from .levels import Levels, encode_reference

SOURCE = Path(__file__).with_name("nerf_cpu.cpp")
SUFFIX = {torch.float32: "float32", torch.float64: "float64"}
CHANNELS = (1, 2, 3, 4, 8)


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """For a call into compiled code; the caller keeps the tensor alive."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class _Encode(torch.autograd.Function):
    """Every tensor whose address the kernel gets is held by a local name until the call is over."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, levels: Levels, slot: Tensor | None) -> Tensor:
        points, table = points.contiguous(), table.contiguous()
        slot = None if slot is None else slot.contiguous()
        numbers, N, C = levels.numbers(), len(points), table.shape[-1]
        size = (ctypes.c_int64 * 6)(N, len(levels), C, table.shape[-2], torch.get_num_threads(), levels.dimensions)
        out = points.new_empty(N, len(levels) * C)
        function = getattr(load_library(SOURCE), f"encode_forward_{SUFFIX[table.dtype]}")
        scales = (ctypes.c_double * (len(levels) + 1))(*levels.scale, levels.shift)
        function(size, address(numbers), scales, address(slot), address(points), address(table), address(out))
        ctx.save_for_backward(points, table, numbers, slot)
        ctx.size, ctx.scales = size, scales
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        points, table, numbers, slot = ctx.saved_tensors
        grad_out = grads[0].contiguous()
        grad_table = torch.zeros_like(table)
        grad_points = torch.zeros_like(points) if ctx.needs_input_grad[0] else None
        function = getattr(load_library(SOURCE), f"encode_backward_{SUFFIX[table.dtype]}")
        function(
            ctx.size, address(numbers), ctx.scales, address(slot), address(points), address(table), address(grad_out),
            address(grad_table), address(grad_points),
        )  # fmt: skip
        return grad_points, grad_table, None, None


def encode(points: Tensor, table: Tensor, levels: Levels, slot: Tensor | None = None) -> Tensor:
    """As `encode_reference`, by the fastest way there is for the device.

    Raises:
        ValueError: shapes or numbers that do not fit the levels.
    """
    D, entries = levels.dimensions, levels.entries
    if table.shape[-2] != entries or points.shape[1:] != (D,) or (table.ndim == 3) != (slot is not None):
        raise ValueError(
            f"table {tuple(table.shape)} and points {tuple(points.shape)} do not fit {entries} entries, {D} dimensions"
        )
    C = table.shape[-1]
    backend = choose_kernel(points.device, SOURCE)
    if backend == "warp" and table.dtype == torch.float32 and CHANNELS[-1] >= C:
        from .kernels.encoding_warp import encode_warp

        return encode_warp(points, table, levels, slot)
    if backend != "compiled" or C not in CHANNELS or table.dtype not in SUFFIX:
        return encode_reference(points, table, levels, slot)
    result = _Encode.apply(points, table, levels, slot)
    assert isinstance(result, Tensor)
    return result
