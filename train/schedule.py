"""Where the run is, and the learning rate there.

Progress is a pure function of the step and, for runs limited in seconds, of the training seconds so far (kept in
the checkpoint). A run limited in steps is therefore deterministic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from viewtime.configs.schema.train import ScheduleSection, Stage, TrainConfig


@dataclass
class Progress:
    """Counters of a run; what a checkpoint stores of it.

    Attributes:
        step: optimiser steps done (skipped ones count: they used up their data).
        samples: grids seen by all processes.
        seconds: training seconds, over all restarts.
        stage: index of the current stage.
        stage_step, stage_seconds: within the stage.
        skipped, skipped_in_a_row: non-finite steps.
        validated, validated_seconds: step and seconds of the newest validation.
        data_starts: how often the data have started anew, in another order, for another number of processes.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    stage: int = 0
    stage_step: int = 0
    stage_seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    validated: int = -1
    validated_seconds: float = 0.0
    data_starts: int = 0


def stage_share(stage: Stage, progress: Progress) -> float:
    """Share of the current stage that is done, in [0, 1]."""
    if stage.steps is not None:
        return min(1.0, progress.stage_step / max(stage.steps, 1))
    return min(1.0, progress.stage_seconds / max(stage.seconds or 0.0, 1e-9))


def run_share(config: TrainConfig, progress: Progress) -> float:
    """Share of the whole run that is done: of its steps or seconds, or of `max_seconds` where that is further."""
    lengths = [float(stage.steps if stage.steps is not None else stage.seconds or 0.0) for stage in config.stages]
    done = sum(lengths[: progress.stage])
    if progress.stage < len(lengths):
        done += lengths[progress.stage] * stage_share(config.stages[progress.stage], progress)
    share = done / max(sum(lengths), 1e-9)
    if config.max_seconds is not None:
        share = max(share, progress.seconds / config.max_seconds)
    return min(share, 1.0)


def lr_factor(schedule: ScheduleSection, step: int, share: float) -> float:
    """Factor on the learning rate of the step about to be taken.

    Args:
        step: steps done.
        share: of the run that is done.
    """
    warm = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps > 0 else 1.0
    if schedule.decay == "constant" or schedule.decay_share <= 0:
        return warm
    left = min(1.0, (1.0 - share) / schedule.decay_share)
    fall = left if schedule.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return warm * (schedule.final + (1 - schedule.final) * fall)


def uses_time(config: TrainConfig) -> bool:
    """Whether the run's length depends on the clock."""
    return config.max_seconds is not None or config.stages[0].seconds is not None
