"""Levels of a multi-resolution grid (Instant-NGP): dense where they fit, hashed where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)  # Instant-NGP, Eq. 4


@dataclass(frozen=True)
class Levels:
    """Where each level's vertices lie in one table.

    Attributes:
        resolution: vertices per axis of each level, over the unit cube.
        offset, size: first entry and number of entries of each level. hashed: which levels share entries.
    """

    resolution: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]
    hashed: tuple[bool, ...]

    @staticmethod
    def of(resolutions: Sequence[int], largest: int) -> Levels:
        """Dense levels where resolution³ ≤ `largest` entries, else hashed into the power of two at most `largest`."""
        table = 1 << (largest.bit_length() - 1)
        hashed = tuple(r**3 > largest for r in resolutions)
        size = tuple(table if h else r**3 for r, h in zip(resolutions, hashed))
        offset = tuple(sum(size[:i]) for i in range(len(size)))
        return Levels(tuple(resolutions), offset, size, hashed)

    @staticmethod
    def geometric(count: int, coarsest: int, finest: int, largest: int) -> Levels:
        """Resolutions that grow by a constant factor (Instant-NGP, Eq. 2 and 3)."""
        growth = (finest / coarsest) ** (1 / max(1, count - 1))
        return Levels.of([round(coarsest * growth**level) for level in range(count)], largest)

    def __len__(self) -> int:
        return len(self.resolution)

    @property
    def entries(self) -> int:
        """Entries of the whole table."""
        return sum(self.size)

    def numbers(self) -> Tensor:
        """int64 [L, 4] (resolution, offset, size, hashed), as the compiled encoder reads them."""
        return torch.tensor(list(zip(self.resolution, self.offset, self.size, map(int, self.hashed))))


def encode_reference(points: Tensor, table: Tensor, levels: Levels, slot: Tensor | None = None) -> Tensor:
    """Trilinear interpolation at every level, in plain torch; differentiable by `points` and `table`.

    Args:
        points: [N, 3] in the unit cube; what lies outside is moved to its boundary.
        table: [E, C], or [K, E, C] with `slot`. slot: int64 [N], which of K tables a point reads.

    Returns:
        [N, L · C], level-major.
    """
    flat = table.reshape(-1, table.shape[-1])
    base = None if slot is None else (slot * table.shape[-2])[:, None]
    corner = torch.tensor([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], device=points.device)
    features = []
    for resolution, offset, size, hashed in zip(levels.resolution, levels.offset, levels.size, levels.hashed):
        place = points.clamp(0, 1) * (resolution - 1)
        cell = place.detach().long().clamp(max=resolution - 2)
        share = (place - cell)[:, None]
        vertex = cell[:, None] + corner
        weight = torch.where(corner.bool(), share, 1 - share).prod(dim=-1)
        if hashed:
            products = vertex * torch.tensor(PRIMES, device=points.device) & 0xFFFFFFFF
            index = (products[..., 0] ^ products[..., 1] ^ products[..., 2]) & (size - 1)
        else:
            index = vertex[..., 0] + resolution * (vertex[..., 1] + resolution * vertex[..., 2])
        index = index + offset if base is None else index + offset + base
        features.append((weight[..., None] * flat[index]).sum(dim=1))
    return torch.cat(features, dim=-1)
