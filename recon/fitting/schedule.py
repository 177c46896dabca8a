"""Which cells a step looks at, and how fast it learns: everything counted in iterations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CURRICULUM_SHARE = 0.4
DECAY_SHARE = 0.4
FINAL_RATE = 0.05
NEWEST = 3
NEWEST_SHARE = 0.6


@dataclass(frozen=True)
class Schedule:
    """Frames enter one by one, outward from the canonical one, over the first 40 % of the dynamic stage."""

    frames: int
    iterations: int
    curriculum: bool = True

    def entered(self, iteration: int) -> int:
        """How many frames take part at an iteration (at least 2 where there are as many)."""
        if not self.curriculum:
            return self.frames
        share = iteration / max(1.0, CURRICULUM_SHARE * self.iterations)
        return min(self.frames, max(2, 1 + int(1 + share * (self.frames - 1))))

    def rate(self, iteration: int) -> float:
        """Factor on the learning rates: 1, then falling exponentially to 0.05 over the last 40 %."""
        share = (iteration / max(1, self.iterations) - (1 - DECAY_SHARE)) / DECAY_SHARE
        return FINAL_RATE ** min(1.0, max(0.0, share))

    def pick_frames(self, iteration: int, count: int, generator: torch.Generator) -> Tensor:
        """[count] different frames; while frames enter, 60 % of the picks are among the newest three."""
        entered = self.entered(iteration)
        weights = torch.ones(entered)
        if self.curriculum and entered < self.frames:
            newest = min(NEWEST, entered)
            if entered > newest:
                weights[:-newest] = (1 - NEWEST_SHARE) / (entered - newest)
                weights[-newest:] = NEWEST_SHARE / newest
        return torch.multinomial(weights, min(count, entered), generator=generator)


def pick_views(usable: Tensor, frames: Tensor, count: int, generator: torch.Generator, weights: Tensor) -> Tensor:
    """[K, count] views for each of the frames, among the usable ones.

    Args:
        usable: [V, F] bool. weights: [V, F], relative frequency.
    """
    chances = (usable.float() * weights)[:, frames].transpose(0, 1)
    fewest = int((chances > 0).sum(dim=1).min())
    return torch.multinomial(chances, min(count, fewest), generator=generator)
