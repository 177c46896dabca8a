"""Ray marching for CUDA, and for a CPU without a compiler: one source for both (Warp)."""
# pyright: reportInvalidTypeForm=false

import functools
from typing import Any

import torch
from torch import Tensor

from viewtime.recon.render.warp_kernels import launch, load_warp

wp = load_warp()


@functools.cache
def march_kernel() -> Any:
    """A thread walks along each ray; the same steps in the same order as the compiled marching takes."""

    @wp.kernel(module="unique", enable_backward=False)
    def march(
        origins: wp.array2d(dtype=wp.float32),
        directions: wp.array2d(dtype=wp.float32),
        jitter: wp.array(dtype=wp.float32),
        slot: wp.array(dtype=wp.int64),
        occupied: wp.array4d(dtype=wp.uint8),
        density: wp.array4d(dtype=wp.float32),
        low: wp.array(dtype=wp.float32),
        side: float,
        step: float,
        stop: float,
        times: wp.array2d(dtype=wp.float32),
        valid: wp.array2d(dtype=wp.uint8),
    ):
        ray = wp.tid()
        last_voxel = occupied.shape[1] - 1
        most = times.shape[1]
        scale = float(occupied.shape[1]) / side
        instant = int(slot[ray])
        near = float(0.0)
        far = float(1.0e9)
        for axis in range(3):
            direction = directions[ray, axis]
            if wp.abs(direction) < 1.0e-9:
                direction = 1.0e-9
            one = (low[axis] - origins[ray, axis]) / direction
            other = (low[axis] + side - origins[ray, axis]) / direction
            near = wp.max(near, wp.min(one, other))
            far = wp.min(far, wp.max(one, other))
        steps = int(0)
        if far > near:
            steps = int((far - near) / step) + 1
        count = int(0)
        depth = float(0.0)
        i = int(0)
        while i < steps and count < most and depth < stop:
            t = near + (float(i) + jitter[ray]) * step
            i += 1
            if t < far:
                x = wp.clamp(int((origins[ray, 0] + t * directions[ray, 0] - low[0]) * scale), 0, last_voxel)
                y = wp.clamp(int((origins[ray, 1] + t * directions[ray, 1] - low[1]) * scale), 0, last_voxel)
                z = wp.clamp(int((origins[ray, 2] + t * directions[ray, 2] - low[2]) * scale), 0, last_voxel)
                if occupied[instant, z, y, x] != wp.uint8(0):
                    depth += density[instant, z, y, x] * step
                    times[ray, count] = t
                    valid[ray, count] = wp.uint8(1)
                    count += 1

    return march


@torch.library.custom_op("viewtime::march_rays", mutates_args=())
def march_rays(
    occupied: Tensor,
    density: Tensor,
    low: Tensor,
    side: float,
    origins: Tensor,
    directions: Tensor,
    slot: Tensor,
    jitter: Tensor,
    step: float,
    most: int,
    stop: float,
) -> tuple[Tensor, Tensor]:
    """As `march_reference`, with the parts of the block as tensors; times and valid (uint8), both [R, most]."""
    R = len(origins)
    times, valid = origins.new_zeros(R, most), origins.new_zeros(R, most, dtype=torch.uint8)
    if R and most:
        held = [tensor.contiguous() for tensor in (origins, directions, jitter, slot, occupied, density, low)]
        launch(march_kernel(), R, [*held, side, step, stop, times, valid])
    return times, valid


@march_rays.register_fake
def _(occupied, density, low, side, origins, directions, slot, jitter, step, most, stop):
    return origins.new_empty(len(origins), most), origins.new_empty(len(origins), most, dtype=torch.uint8)
