"""What a batch is made into: conditions, noised grids, and the prediction that the network is to learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import TrainConfig
from viewtime.train.streams.batches import Batch

from .conditioning import apply_conditioning
from .drafts import Denoise, with_drafts
from .losses import Cond, Noised, noised_batch, sample_generator
from .student import Teacher


@dataclass(frozen=True)
class Task:
    """Of one micro-batch.

    Attributes:
        cond: conditions, some of them dropped.
        noised: what the network sees.
        target: the prediction that is right there, [B, V, F, C, H, W]: the truth, or a teacher's.
    """

    cond: Cond
    noised: Noised
    target: Tensor


def make_task(
    config: TrainConfig, batch: Batch, loss: LossSection, first: int, denoise: Denoise, teacher: Teacher | None
) -> Task:
    """Draw masks, dropout, noise and levels.

    Args:
        first: number of the batch's first sample in the run; a sample's random numbers depend on its number alone.
        denoise: the model, for drafts.
        teacher: of a student; its batch has one step's noise level.
    """

    def generators(purpose: int = 0) -> list[torch.Generator]:
        return [sample_generator(config.seed, first + i, purpose) for i in range(len(batch.x0))]

    random = generators()
    cond = apply_conditioning(batch.x0, batch.cond, config.conditioning, random)
    if teacher is not None:
        choice = sample_generator(config.seed, first, purpose=6)
        noised, target = teacher.lesson(batch.x0, cond, loss, lambda: generators(7), choice)
        return Task(cond, noised, target)
    noised = noised_batch(batch.x0, cond.get("known"), loss, random)
    if loss.drafted:
        noised = with_drafts(noised, denoise, cond, loss, generators(5))
    return Task(cond, noised, batch.x0)
