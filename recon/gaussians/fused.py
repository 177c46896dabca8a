"""What a step of the fit computes beside drawing, in compiled code: each function in one pass, with its gradient.

The plain versions stand in `canonical.py`, `motion.py` and `fit.py`; they serve other devices, and machines without a
compiler.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.recon.render.compiled import load_library

SOURCE = Path(__file__).with_name("fit_cpu.cpp")
SUFFIX = {torch.float32: "float32", torch.float64: "float64"}


def is_fused(tensor: Tensor) -> bool:
    """Whether the compiled functions take a tensor: floats on the CPU, where they can be built."""
    return tensor.device.type == "cpu" and tensor.dtype in SUFFIX and load_library(SOURCE) is not None


def _call(name: str, size: tuple[int, ...], kind: torch.dtype, *tensors: Tensor) -> None:
    """Call a kernel with its sizes and the addresses of contiguous tensors, which the caller keeps alive."""
    assert all(tensor.dtype in (kind, torch.int64) for tensor in tensors), [tensor.dtype for tensor in tensors]
    library: Any = load_library(SOURCE)
    function = getattr(library, f"{name}_{SUFFIX[kind]}")
    function((ctypes.c_int64 * len(size))(*size), *[ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors])


class _Covariance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        inputs = [tensor.contiguous() for tensor in arguments]
        result = inputs[0].new_empty(len(inputs[0]), 3, 3)
        _call("covariance_forward", (len(result),), result.dtype, *inputs, result)
        ctx.save_for_backward(*inputs)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        inputs, grad = ctx.saved_tensors, grads[0].contiguous()
        results = tuple(torch.empty_like(tensor) for tensor in inputs)
        _call("covariance_backward", (len(grad),), grad.dtype, *inputs, grad, *results)
        return results


def covariance_matrices(quaternion: Tensor, log_scale: Tensor) -> Tensor:
    """Rotations (w, x, y, z), any length, [N, 4] and logarithms of the axes [N, 3] -> covariances [N, 3, 3]."""
    return _Covariance.apply(quaternion, log_scale)  # type: ignore[return-value]


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        inputs = [tensor.contiguous() for tensor in arguments]
        position, logits, _, centres, _, _, frames = inputs
        ctx.size = (len(position), len(centres), logits.shape[1], len(frames))
        linear = position.new_empty(len(frames), len(position), 3, 3)
        moved = position.new_empty(len(frames), len(position), 3)
        _call("carry_forward", ctx.size, position.dtype, *inputs, linear, moved)
        ctx.save_for_backward(*inputs, linear)
        return linear, moved

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, linear = ctx.saved_tensors
        position, logits, _, _, translation, rotation, _ = inputs
        given = [grad.contiguous() for grad in grads]
        results = [torch.zeros_like(tensor) for tensor in (position, logits, translation, rotation)]
        _call("carry_backward", ctx.size, position.dtype, *inputs, linear, *given, *results)
        return results[0], results[1], None, None, results[2], results[3], None


def carry(
    position: Tensor,
    logits: Tensor,
    index: Tensor,
    centres: Tensor,
    translation: Tensor,
    rotation: Tensor,
    frames: Tensor,
) -> tuple[Tensor, Tensor]:
    """Points carried by control points, as `ControlPointMotion.affine`: linear [K, N, 3, 3] and moved [K, N, 3].

    Args:
        position: [N, 3]. logits, index: of the control points that each hangs on, [N, Q]. centres: [M, 3].
        translation, rotation: axis-angle, [F, M, 3] each. frames: [K] of F.
    """
    return _Carry.apply(position, logits, index, centres, translation, rotation, frames)  # type: ignore[return-value]


class _Energy(torch.autograd.Function):
    """A scalar, so that its gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        centres, around, weights, translation, rotation, frames = (tensor.contiguous() for tensor in arguments)
        value = translation.new_empty(())
        pulls = torch.zeros_like(translation), torch.zeros_like(rotation)
        size = (*translation.shape[:2], around.shape[1], len(frames))
        _call("energy", size, value.dtype, centres, around, weights, translation, rotation, frames, value, *pulls)
        ctx.save_for_backward(*pulls)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        to_translation, to_rotation = ctx.saved_tensors
        return None, None, None, to_translation * grads[0], to_rotation * grads[0], None


def motion_energy(
    centres: Tensor, around: Tensor, weights: Tensor, translation: Tensor, rotation: Tensor, frames: Tensor
) -> Tensor:
    """The energy of `ControlPointMotion.regulariser`.

    Args:
        centres: [M, 3]. around: neighbours [M, R]. weights: [3], the mean edge and the shares of bend and jerk.
        translation, rotation: [F, M, 3] each. frames: [K] of F.
    """
    return _Energy.apply(centres, around, weights, translation, rotation, frames)  # type: ignore[return-value]


class _CellErrors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        drawn, images, cells = (tensor.contiguous() for tensor in arguments)
        B, _, H, W = drawn.shape
        ctx.size, means = (B, H * W), drawn.new_empty(B, 3)
        _call("cell_errors", ctx.size, drawn.dtype, drawn, images, cells, means)
        ctx.save_for_backward(drawn, images, cells)
        return means

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        drawn, images, cells = ctx.saved_tensors
        grad, result = grads[0].contiguous(), torch.empty_like(drawn)
        _call("cell_errors_backward", ctx.size, drawn.dtype, drawn, images, cells, grad, result)
        return result, None, None


def cell_errors(drawn: Tensor, images: Tensor, cells: Tensor) -> Tensor:
    """How far pictures are from their targets, [B, 3]: means of |colour|, colour² and mask² of the difference.

    Args:
        drawn: premultiplied colour and alpha [B, 4, H, W], compared on white.
        images: all targets, colour on white and mask [cells, 4, H, W]; cells: which are meant, [B].
    """
    return _CellErrors.apply(drawn, images, cells)  # type: ignore[return-value]
