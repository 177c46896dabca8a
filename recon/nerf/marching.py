"""Where along a ray to look: regular steps inside occupied voxels, until the known density hides the rest."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.warp_kernels import choose_kernel

from .encoding import SOURCE, address

OPAQUE = 5.0  # optical depth at which nothing behind is seen: exp(-5) < 0.01


@dataclass(frozen=True)
class Block:
    """Voxels of K instants over one cube.

    Attributes:
        occupied: uint8 [K, G, G, G], axes z, y, x. density: float32, the same shape, per world unit; a lower bound.
        low: corner of the cube [3]; side: its edge, world units.
    """

    occupied: Tensor
    density: Tensor
    low: Tensor
    side: float

    @property
    def resolution(self) -> int:
        """G."""
        return self.occupied.shape[-1]


def march_reference(
    block: Block, origins: Tensor, directions: Tensor, slot: Tensor, jitter: Tensor, step: float, most: int
) -> tuple[Tensor, Tensor]:
    """Distances of the samples along each ray, in plain torch.

    Args:
        origins, directions: [R, 3], unit directions. slot: int64 [R], instant. jitter: [R] in [0, 1), of a step.
        step: world units. most: samples per ray at most.

    Returns:
        times [R, S] and valid [R, S] bool, valid ones first, S ≤ most.
    """
    G = block.resolution
    safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    one, other = (block.low - origins) / safe, (block.low + block.side - origins) / safe
    near = torch.minimum(one, other).amax(dim=1).clamp(min=0)
    far = torch.maximum(one, other).amin(dim=1)
    count = int(((far - near).clamp(min=0) / step).amax().ceil()) + 1 if len(origins) else 0
    times = near[:, None] + (torch.arange(count, device=near.device) + jitter[:, None]) * step
    place = origins[:, None] + times[..., None] * directions[:, None]
    cell = ((place - block.low) * (G / block.side)).long().clamp(0, G - 1)
    flat = slot[:, None] * G**3 + cell[..., 0] + G * (cell[..., 1] + G * cell[..., 2])
    inside = (times < far[:, None]) & (block.occupied.view(-1)[flat] > 0)
    depth = torch.where(inside, block.density.view(-1)[flat] * step, torch.zeros(()).to(near))
    inside &= depth.cumsum(dim=1) - depth < OPAQUE
    order = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return times.gather(1, order), inside.gather(1, order)


def march_compiled(
    block: Block, origins: Tensor, directions: Tensor, slot: Tensor, jitter: Tensor, step: float, most: int
) -> tuple[Tensor, Tensor]:
    """As `march_reference`, on the CPU."""
    R = len(origins)
    held = [tensor.contiguous() for tensor in (origins, directions, jitter, slot, block.occupied, block.density)]
    times, counts = origins.new_zeros(R, most), torch.empty(R, dtype=torch.long)
    size = (ctypes.c_int64 * 4)(R, block.resolution, most, torch.get_num_threads())
    number = (ctypes.c_float * 6)(*block.low.tolist(), block.side, step, OPAQUE)
    library = load_library(SOURCE)
    assert library is not None
    library.march(size, number, *[address(tensor) for tensor in held], address(times), address(counts))
    used = int(counts.max()) if R else 0
    return times[:, :used], torch.arange(used) < counts[:, None]


def longest_path(block: Block, rays: tuple[Tensor, Tensor, Tensor]) -> float:
    """Longest way that a ray has to be looked at, world units: its part in occupied voxels until they hide the rest.

    Args:
        rays: origins [R, 3], unit directions [R, 3] and instants int64 [R].
    """
    origins, directions, slot = rays
    voxel, most = block.side / block.resolution, 2 * block.resolution
    _, valid = march(block, origins, directions, slot, torch.full_like(origins[:, 0], 0.5), voxel, most)
    return float(valid.sum(dim=1).max()) * voxel


def march_warp(
    block: Block, origins: Tensor, directions: Tensor, slot: Tensor, jitter: Tensor, step: float, most: int
) -> tuple[Tensor, Tensor]:
    """As `march_reference`, on CUDA or the CPU; always `most` columns, so that nothing waits for their number."""
    from .kernels.marching_warp import march_rays

    b = block
    times, valid = march_rays(
        b.occupied, b.density, b.low, b.side, origins, directions, slot, jitter, step, most, OPAQUE
    )
    return times, valid.bool()


@torch.no_grad()
def march(
    block: Block, origins: Tensor, directions: Tensor, slot: Tensor, jitter: Tensor, step: float, most: int
) -> tuple[Tensor, Tensor]:
    """As `march_reference`, by the fastest way there is for the device."""
    backend = choose_kernel(origins.device, SOURCE)
    by_name = {"compiled": march_compiled, "warp": march_warp, "reference": march_reference}
    return by_name[backend](block, origins, directions, slot, jitter, step, most)
