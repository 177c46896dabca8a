"""Sources of training grids, addressed by position, and their mixture by weight.

A source is a function of (consumer, position): nothing else decides what it gives. So a run resumes at an exact
place by remembering one integer a source, and is the same for the same seed and number of consumers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from viewtime.data.samples import GridSample, generator_for
from viewtime.errors import UserError


@dataclass(frozen=True)
class Consumer:
    """One loader worker of one training process.

    Attributes:
        seed: of the run.
        rank, world: this training process among all.
        worker, workers: this loader worker among those of the process.
    """

    seed: int
    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1

    @property
    def index(self) -> int:
        """Number of this consumer among all of the run."""
        return self.rank * self.workers + self.worker

    @property
    def count(self) -> int:
        """All consumers of the run."""
        return self.world * self.workers


class Source(Protocol):
    """Anything that gives grids by position."""

    name: str

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """The consumer's sample number `position` (0, 1, 2 … without end), cut to the views and frames asked for.

        Azimuths are counted from the first view of the grid.

        Raises:
            CorruptSampleError: this sample cannot be used; the next position can.
        """
        ...


@dataclass(frozen=True)
class Position:
    """How far one consumer has come: samples drawn from each source, how many had to be skipped, batches filled."""

    drawn: tuple[int, ...]
    skipped: int = 0
    batches: int = 0

    @property
    def total(self) -> int:
        """Samples drawn from all sources."""
        return sum(self.drawn)

    def after(self, source: int, failed: bool) -> Position:
        """The position after one more draw."""
        drawn = tuple(count + (index == source) for index, count in enumerate(self.drawn))
        return Position(drawn, self.skipped + failed, self.batches)


class Mixture:
    """Chooses the source of each draw by weight, from the consumer and the position alone.

    Args:
        one_a_batch: a batch's samples are all of one source, which is the same in all processes.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], one_a_batch: bool = False) -> None:
        if not sources:
            raise UserError("no data: give data.options.shards, data.options.assets or data.options.videos")
        if len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0:
            raise UserError(f"source weights {list(weights)}; need one a source, none negative, one positive")
        self.sources = list(sources)
        self.one_a_batch = one_a_batch
        self.shares = np.asarray(weights, dtype=np.float64) / sum(weights)

    def start(self) -> Position:
        """The position of a run that has drawn nothing."""
        return Position((0,) * len(self.sources))

    def choose(self, consumer: Consumer, position: Position) -> int:
        """Index of the source of the next draw."""
        if len(self.sources) == 1:
            return 0
        if self.one_a_batch:
            rng = generator_for(consumer.seed, consumer.worker, position.batches, 5)
        else:
            rng = generator_for(consumer.seed, consumer.index, position.total, 0)
        return int(rng.choice(len(self.sources), p=self.shares))
