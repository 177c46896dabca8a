"""Numbers that change over a run, as data: loss weights, timestep ranges, clamps, density offsets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """From `first` at step `start` linearly to `last` at step `end`; constant before and after.

    threestudio's list [start, first, last, end]; a list of three has start 0.
    """

    start: int
    first: float
    last: float
    end: int

    def at(self, step: int) -> float:
        """The value at a global step."""
        share = max(min(1.0, (step - self.start) / (self.end - self.start)), 0.0)
        return self.first + (self.last - self.first) * share


Scalar = float | Ramp


def value_at(scalar: Scalar, step: int) -> float:
    """A plain number stays."""
    return scalar.at(step) if isinstance(scalar, Ramp) else float(scalar)


@dataclass(frozen=True)
class TimestepRange:
    """Share of the schedule from which timesteps are drawn.

    Attributes:
        low, high: shares in [0, 1].
        switch: from the step after this one on `high` is `high_after` (ProlificDreamer's annealing); None: never.
    """

    low: Scalar = 0.02
    high: Scalar = 0.98
    switch: int | None = None
    high_after: float = 0.5

    def at(self, step: int, trained: int = 1000) -> tuple[int, int]:
        """Closed range of timesteps; products are cut, not rounded, as the published code does (0.2 may give 199)."""
        high = self.high_after if self.switch is not None and step > self.switch else value_at(self.high, step)
        return int(trained * value_at(self.low, step)), int(trained * high)


def open_levels(step: int, levels: int, first: int = 4, every: int = 500) -> int:
    """How many levels of a hash grid are on at a step: `first`, and one more every `every` steps, up to `levels`."""
    return min(first + step // every, levels)
