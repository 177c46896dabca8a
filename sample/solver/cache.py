"""Training-free speed-ups: predictions that are reused in place of a network evaluation.

`guidance`: every second guided step reuses the difference between the conditional and the unconditional prediction,
which changes slowly, and evaluates the conditional branch alone. `steps`: every second step in the middle of the
ladder extrapolates x0 from the two last evaluations, linearly in log sigma. What they cost in quality is measured by
`benchmarks/sampling_speedups.py`.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

CacheKind = Literal["none", "guidance", "steps"]


class StepCache:
    """State of one window batch.

    Args:
        kind: what is reused.
        steps: number of sampler steps; the first quarter and the last step are always evaluated, since there the
            prediction turns fastest and errors are not corrected any more.
    """

    def __init__(self, kind: CacheKind = "none", steps: int = 0) -> None:
        self.kind, self.steps = kind, steps
        self.evaluations = 0
        self._past: dict[int, list[tuple[float, Tensor]]] = {}
        self._difference: Tensor | None = None

    def skips(self, step: int) -> bool:
        """Whether a step is one of those that reuse."""
        return self.kind != "none" and step >= max(2, self.steps // 4) and step % 2 == 1 and step < self.steps - 1

    def reuse(self, x: Tensor, sigma: float, step: int, direction: int) -> Tensor | None:
        """A prediction without the network, or None where it must be evaluated."""
        past = self._past.get(direction, [])
        if self.kind != "steps" or not self.skips(step) or len(past) < 2 or sigma <= 0:
            return None
        (sigma_1, older), (sigma_2, newer) = past
        width = math.log(sigma_2 / sigma_1)
        if width == 0:
            return newer
        return newer + (newer - older) * (math.log(sigma / sigma_2) / width)

    def remember(self, denoised: Tensor, sigma: float, step: int, direction: int) -> None:
        """Keep an evaluated prediction."""
        self.evaluations += 1
        if self.kind == "steps":
            self._past[direction] = [*self._past.get(direction, []), (sigma, denoised)][-2:]

    def difference(self, step: int) -> Tensor | None:
        """Conditional minus unconditional prediction of an earlier step, or None where it must be evaluated."""
        return self._difference if self.kind == "guidance" and self.skips(step) else None

    def remember_difference(self, difference: Tensor) -> None:
        """Keep it for the next step."""
        if self.kind == "guidance":
            self._difference = difference
