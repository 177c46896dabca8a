"""One grid of values per frame, linear in between: the cheap form of a field over space and time."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .levels import Levels


class FrameGrids(nn.Module):
    """F tables of the same levels, zero at the start.

    Each frame's table is a parameter of its own, so that a step moves only the frames it looks at.
    """

    def __init__(self, frames: int, levels: Levels, channels: int) -> None:
        super().__init__()
        self.levels, self.channels = levels, channels
        self.tables = nn.ParameterList([nn.Parameter(torch.zeros(levels.entries, channels)) for _ in range(frames)])

    def at(self, times: Tensor) -> Tensor:
        """[K, E, C] at K instants (frame numbers, clamped to the clip)."""
        last = len(self.tables) - 1
        tables = []
        for time in times.tolist():
            time = min(max(float(time), 0.0), float(last))
            below = int(time)
            share = time - below
            table = self.tables[below]
            tables.append(table if share == 0 else torch.lerp(table, self.tables[below + 1], share))
        return torch.stack(tables)

    @torch.no_grad()
    def copy(self, source: int, target: int) -> None:
        """A frame starts from another one."""
        self.tables[target].copy_(self.tables[source])

    def roughness(self, tables: Tensor) -> Tensor:
        """Mean squared difference between neighbours in space, summed over the levels; tables [K, E, C]."""
        total = tables.new_zeros(())
        for r, offset, size in zip(self.levels.resolution, self.levels.offset, self.levels.size):
            block = rearrange(tables[:, offset : offset + size], "k (z y x) c -> k z y x c", x=r, y=r)
            for axis in (1, 2, 3):
                total = total + block.diff(dim=axis).square().mean()
        return total

    def acceleration(self, frames: list[int], tables: Tensor) -> Tensor:
        """Mean squared difference between frames' tables [K, E, C] and the mean of their neighbours, held still."""
        last = len(self.tables) - 1
        if last == 0:
            return tables.new_zeros(())
        before = torch.stack([self.tables[frame - 1 if frame > 0 else 1].detach() for frame in frames])
        after = torch.stack([self.tables[frame + 1 if frame < last else last - 1].detach() for frame in frames])
        return (tables - torch.lerp(before, after, 0.5)).square().mean()
