"""The grid encoder for CUDA, and for a CPU without a compiler: one source for both (Warp)."""
# pyright: reportInvalidTypeForm=false

import functools
from typing import Any

import torch
from torch import Tensor

from viewtime.recon.nerf.levels import PRIMES, Levels
from viewtime.recon.render.warp_kernels import launch, load_warp

wp = load_warp()


@functools.cache
def encoder_kernels(dimensions: int, channels: int) -> tuple[Any, Any]:
    """Kernels (forward, backward) for D-dimensional points and C channels; a thread for each point and level."""
    D, C, corners = dimensions, channels, 1 << dimensions
    second, third, fourth = (wp.uint32(prime) for prime in PRIMES[1:])
    cells_type = wp.types.vector(length=dimensions, dtype=wp.int32)
    place_type = wp.types.vector(length=dimensions, dtype=wp.float32)
    value_type = wp.types.vector(length=channels, dtype=wp.float32)

    @wp.func
    def bounded(x: float):
        if x > 0.0:  # false for NaN too
            return wp.min(x, 1.0)
        return 0.0

    @wp.func
    def entry(cell: cells_type, corner: int, numbers: wp.array2d(dtype=wp.int64), level: int):
        resolution = numbers[level, 0]
        size = numbers[level, 2]
        index = wp.int64(0)
        if numbers[level, 3] != wp.int64(0):
            key = wp.uint32(cell[0] + (corner & 1))
            key = key ^ (wp.uint32(cell[1] + ((corner >> 1) & 1)) * second)
            key = key ^ (wp.uint32(cell[2] + ((corner >> 2) & 1)) * third)
            if wp.static(dimensions == 4):
                key = key ^ (wp.uint32(cell[D - 1] + ((corner >> 3) & 1)) * fourth)
            index = wp.int64(key) & (size - wp.int64(1))
        else:
            for axis in range(D):
                d = D - 1 - axis
                index = wp.int64(cell[d] + ((corner >> d) & 1)) + resolution * index
            index = index % size
        return index + numbers[level, 1]

    @wp.func
    def weight(share: place_type, corner: int):
        product = float(1.0)
        for d in range(D):
            if (corner >> d) & 1 == 1:
                product *= share[d]
            else:
                product *= 1.0 - share[d]
        return product

    @wp.kernel(module="unique", enable_backward=False)
    def forward(
        points: wp.array2d(dtype=wp.float32),
        table: wp.array3d(dtype=wp.float32),
        slot: wp.array(dtype=wp.int64),
        numbers: wp.array2d(dtype=wp.int64),
        scales: wp.array(dtype=wp.float32),
        shift: float,
        out: wp.array2d(dtype=wp.float32),
    ):
        n, level = wp.tid()
        cell = cells_type()
        share = place_type()
        for d in range(D):
            place = bounded(points[n, d]) * scales[level] + shift
            cell[d] = int(place)
            share[d] = place - float(cell[d])
        k = int(0)
        if slot.shape[0] > 0:
            k = int(slot[n])
        total = value_type()
        for corner in range(corners):
            index = int(entry(cell, corner, numbers, level))
            share_of = weight(share, corner)
            for c in range(C):
                total[c] += share_of * table[k, index, c]
        for c in range(C):
            out[n, level * C + c] = total[c]

    @wp.kernel(module="unique", enable_backward=False)
    def backward(
        points: wp.array2d(dtype=wp.float32),
        table: wp.array3d(dtype=wp.float32),
        slot: wp.array(dtype=wp.int64),
        numbers: wp.array2d(dtype=wp.int64),
        scales: wp.array(dtype=wp.float32),
        shift: float,
        grad_out: wp.array2d(dtype=wp.float32),
        wants_points: int,
        grad_table: wp.array3d(dtype=wp.float32),
        grad_points: wp.array2d(dtype=wp.float32),
    ):
        n, level = wp.tid()
        cell = cells_type()
        share = place_type()
        slope = place_type()
        for d in range(D):
            x = points[n, d]
            if x > 0.0 and x < 1.0:
                slope[d] = scales[level]
            place = bounded(x) * scales[level] + shift
            cell[d] = int(place)
            share[d] = place - float(cell[d])
        k = int(0)
        if slot.shape[0] > 0:
            k = int(slot[n])
        wanted = value_type()
        for c in range(C):
            wanted[c] = grad_out[n, level * C + c]
        gradient = place_type()
        for corner in range(corners):
            index = int(entry(cell, corner, numbers, level))
            share_of = weight(share, corner)
            along = float(0.0)
            for c in range(C):
                wp.atomic_add(grad_table, k, index, c, share_of * wanted[c])
                along += table[k, index, c] * wanted[c]
            if wants_points != 0:
                for d in range(D):
                    rest = along * slope[d]
                    for other in range(D):
                        if other != d:
                            if (corner >> other) & 1 == 1:
                                rest *= share[other]
                            else:
                                rest *= 1.0 - share[other]
                    if (corner >> d) & 1 == 1:
                        gradient[d] += rest
                    else:
                        gradient[d] -= rest
        if wants_points != 0:
            for d in range(D):
                wp.atomic_add(grad_points, n, d, gradient[d])

    return forward, backward


@functools.cache
def _placed(numbers: tuple[int, ...], scales: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Levels on a device: int64 [L, 4] and float32 [L]; copied once, as every copy from the host waits."""
    return torch.tensor(numbers, device=device).view(-1, 4), torch.tensor(scales, device=device)


def _arguments(points: Tensor, table: Tensor, slot: Tensor | None, numbers: list[int], scales: list[float]) -> list:
    tables = table.contiguous().view(-1, table.shape[-2], table.shape[-1])
    slots = points.new_empty(0, dtype=torch.int64) if slot is None else slot.contiguous()
    return [points.contiguous(), tables, slots, *_placed(tuple(numbers), tuple(scales), points.device)]


@torch.library.custom_op("viewtime::grid_encode", mutates_args=())
def grid_encode(
    points: Tensor, table: Tensor, slot: Tensor | None, numbers: list[int], scales: list[float], shift: float
) -> Tensor:
    """As `encode_reference`; the levels as plain numbers (`Levels.numbers`, row by row)."""
    N, L, C = len(points), len(scales), table.shape[-1]
    out = points.new_empty(N, L * C)
    if N:
        arguments = _arguments(points, table, slot, numbers, scales)
        launch(encoder_kernels(points.shape[1], C)[0], (N, L), [*arguments, shift, out])
    return out


@torch.library.custom_op("viewtime::grid_encode_backward", mutates_args=())
def grid_encode_backward(
    grad_out: Tensor,
    points: Tensor,
    table: Tensor,
    slot: Tensor | None,
    numbers: list[int],
    scales: list[float],
    shift: float,
    wants_points: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the table and of the points; the latter is empty unless it is wanted."""
    N, L, C = len(points), len(scales), table.shape[-1]
    grad_table = torch.zeros_like(table, memory_format=torch.contiguous_format)
    grad_points = points.new_zeros(N if wants_points else 0, points.shape[1])
    if N:
        arguments = _arguments(points, table, slot, numbers, scales)
        written = [grad_table.view(-1, *table.shape[-2:]), grad_points]
        kernel = encoder_kernels(points.shape[1], C)[1]
        launch(kernel, (N, L), [*arguments, shift, grad_out.contiguous(), int(wants_points), *written])
    return grad_table, grad_points


@grid_encode.register_fake
def _(points, table, slot, numbers, scales, shift):
    return points.new_empty(len(points), len(scales) * table.shape[-1])


@grid_encode_backward.register_fake
def _(grad_out, points, table, slot, numbers, scales, shift, wants_points):
    return torch.empty_like(table), points.new_empty(len(points) if wants_points else 0, points.shape[1])


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    points, table, slot, *ctx.levels = inputs
    ctx.save_for_backward(points, table, slot)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[0]
    grad_table, grad_points = grid_encode_backward(grad_out, *ctx.saved_tensors, *ctx.levels, wanted)
    return grad_points if wanted else None, grad_table, None, None, None, None


grid_encode.register_autograd(_backward, setup_context=_keep)


def encode_warp(points: Tensor, table: Tensor, levels: Levels, slot: Tensor | None = None) -> Tensor:
    """As `encode_reference`, in float32 and at most 8 channels, on CUDA or the CPU."""
    rows = zip(levels.resolution, levels.offset, levels.size, levels.hashed)
    numbers = [int(number) for row in rows for number in row]
    return grid_encode(points, table, slot, numbers, list(levels.scale), levels.shift)
