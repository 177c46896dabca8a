"""Levels of a multi-resolution grid (Instant-NGP): dense where they fit, hashed where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PRIMES = (1, 2654435761, 805459861, 3674653429)  # Instant-NGP, Eq. 4; the fourth is tiny-cuda-nn's, for time


@dataclass(frozen=True)
class Levels:
    """Where each level's vertices lie in one table.

    A coordinate x of the unit cube lies at x · scale + shift between the vertices of a level.

    Attributes:
        resolution: vertices per axis of each level.
        offset, size: first entry and number of entries of each level. hashed: which levels share entries.
        scale: cells per unit length of each level; shift: in cells.
        dimensions: D, 3 or 4.
    """

    resolution: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]
    hashed: tuple[bool, ...]
    scale: tuple[float, ...]
    shift: float = 0.0
    dimensions: int = 3

    @staticmethod
    def of(resolutions: Sequence[int], largest: int) -> Levels:
        """Dense levels where resolution³ ≤ `largest` entries, else hashed into the power of two at most `largest`."""
        table = 1 << (largest.bit_length() - 1)
        hashed = tuple(r**3 > largest for r in resolutions)
        size = tuple(table if h else r**3 for r, h in zip(resolutions, hashed))
        return Levels(tuple(resolutions), _offsets(size), size, hashed, tuple(r - 1.0 for r in resolutions))

    @staticmethod
    def geometric(count: int, coarsest: int, finest: int, largest: int) -> Levels:
        """Resolutions that grow by a constant factor (Instant-NGP, Eq. 2 and 3)."""
        growth = (finest / coarsest) ** (1 / max(1, count - 1))
        return Levels.of([round(coarsest * growth**level) for level in range(count)], largest)

    @staticmethod
    def tiny_cuda_nn(count: int, base: int, growth: float, log2_table: int, dimensions: int = 3) -> Levels:
        """Levels as tiny-cuda-nn lays them out, for the published fields of 4D-fy and Dream-in-4D.

        Level l has base · growth^l − 1 cells along the cube, which lies half a cell off its first vertex.
        """
        table = 1 << log2_table
        scale = tuple(base * growth**level - 1 for level in range(count))
        resolution = tuple(math.ceil(cells) + 1 for cells in scale)
        dense = [r**dimensions for r in resolution]
        size = tuple(min(-(-entries // 8) * 8, table) for entries in dense)
        hashed = tuple(entries > table for entries in dense)
        return Levels(resolution, _offsets(size), size, hashed, scale, 0.5, dimensions)

    def __len__(self) -> int:
        return len(self.resolution)

    @property
    def entries(self) -> int:
        """Entries of the whole table."""
        return sum(self.size)

    def numbers(self) -> Tensor:
        """int64 [L, 4] (resolution, offset, size, hashed), as the compiled encoder reads them."""
        return torch.tensor(list(zip(self.resolution, self.offset, self.size, map(int, self.hashed))))


def _offsets(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(size[:i]) for i in range(len(size)))


def encode_reference(points: Tensor, table: Tensor, levels: Levels, slot: Tensor | None = None) -> Tensor:
    """D-linear interpolation at every level, in plain torch; differentiable by `points` and `table`.

    Args:
        points: [N, D] in the unit cube; what lies outside is moved to its boundary.
        table: [E, C], or [K, E, C] with `slot`. slot: int64 [N], which of K tables a point reads.

    Returns:
        [N, L · C], level-major.
    """
    D = levels.dimensions
    flat = table.reshape(-1, table.shape[-1])
    base = None if slot is None else (slot * table.shape[-2])[:, None]
    corner = torch.tensor([[c >> d & 1 for d in range(D)] for c in range(1 << D)], device=points.device)
    features = []
    for level, (resolution, offset, size) in enumerate(zip(levels.resolution, levels.offset, levels.size)):
        place = points.clamp(0, 1) * levels.scale[level] + levels.shift
        cell = place.detach().long()
        share = (place - cell)[:, None]
        vertex = cell[:, None] + corner
        weight = torch.where(corner.bool(), share, 1 - share).prod(dim=-1)
        if levels.hashed[level]:
            index = vertex[..., 0] & 0xFFFFFFFF
            for d in range(1, D):
                index = index ^ (vertex[..., d] * PRIMES[d] & 0xFFFFFFFF)
            index = index & (size - 1)
        else:
            index = vertex[..., D - 1]
            for d in reversed(range(D - 1)):
                index = vertex[..., d] + resolution * index
            index = index % size  # a vertex beyond the last has no weight, or is the first of the next row
        index = index + offset if base is None else index + offset + base
        features.append((weight[..., None] * flat[index]).sum(dim=1))
    return torch.cat(features, dim=-1)
