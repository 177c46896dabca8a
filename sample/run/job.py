"""What a run is to do, settled in full before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.sample.input.preprocess import PreparedVideo
from viewtime.sample.plan.plan import Plan

from .runner import Settings


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first window is sampled.

    Attributes:
        cameras: that the model is asked for.
        cameras_known: False where the model does not see them and the user did not tell them: the views show what
            they show, and the cameras are placeholders.
    """

    prepared: PreparedVideo
    cameras: Cameras
    plan: Plan
    settings: Settings
    cameras_known: bool = True
    reference_views: Tensor | None = None  # the user's own views of frame 0, [V − 1, 4, S, S] in [0, 1]

    @property
    def true_cameras(self) -> Cameras | None:
        """Those of the finished grid; None where nobody knows them."""
        return self.cameras if self.cameras_known else None

    @property
    def known(self) -> Tensor:
        """Given cells, bool [V, F]."""
        problem = self.plan.problem
        return torch.tensor([[(v, f) in problem.given for f in range(problem.frames)] for v in range(problem.views)])
