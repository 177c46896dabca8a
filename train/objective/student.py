"""Few sampling steps learned from many (progressive distillation; Salimans and Ho 2022, in one go instead of halving).

A sampler of few steps takes each of them along a straight line, while the probability flow bends. The student learns,
at the first noise level of each of its steps, the line that ends where the teacher arrives in many small steps; the
teacher's classifier-free guidance is in that line, so the student needs one evaluation where guidance needs two (Meng
et al. 2023, "On distillation of guided diffusion models").

With x at level t and the teacher's x' at level s < t, an Euler step x' = x + (x - D) (s - t) / t asks for the
prediction D = (x' - (s / t) x) / (1 - s / t), in EDM and in rectified flow alike. A last step, s = 0, asks for x'.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.sample.models.grid_model import SamplerDefaults
from viewtime.sample.run.settle import settle_guidance, settle_schedule
from viewtime.sample.solver.guidance import Guidance, combine
from viewtime.sample.solver.samplers import EVALUATIONS_PER_STEP, get_sampler
from viewtime.sample.solver.schedules import Schedule

from .losses import Cond, Noised, noised_batch, stage_loss

Denoise = Callable[[Tensor, Tensor, Cond], Tensor]


def check_student(config: TrainConfig) -> None:
    """Raise UserError for what would teach something else than the teacher's way."""
    if not config.student.steps:
        return
    if config.conditioning.dropout:
        raise UserError("a student is never unconditional, as guidance is part of it: empty conditioning.dropout")
    for stage in config.stages:
        loss = stage_loss(config, stage)
        for name in ("adversarial", "outline", "drafted"):
            if getattr(loss, name):
                raise UserError(f"loss.{name} is {getattr(loss, name)}; a student learns from its teacher alone: set 0")


def ladders(config: TrainConfig, kind: str) -> list[Schedule]:
    """The teacher's noise levels within each of the student's steps, `teacher.steps / steps` + 1 of them.

    Between two of the student's levels they are spaced as the whole ladder is: evenly in time before a flow's shift,
    evenly in sigma^(1 / rho) for EDM (rho 7). EDM's ladder ends in a step from `sigma_min` to 0, which is worth one of
    a few steps only where `teacher.sigma_min` is well above the published 0.002.
    """
    section = config.student
    within = (section.teacher.steps or 0) // section.steps
    own = settle_schedule(kind, SamplerDefaults(), replace(section.teacher, steps=section.steps)).sigmas.double()
    if kind == "flow":
        fine = settle_schedule(kind, SamplerDefaults(), section.teacher).sigmas
        parts = [fine[step * within : (step + 1) * within + 1] for step in range(section.steps)]
    else:
        ramp = torch.linspace(0, 1, within + 1, dtype=torch.float64)
        roots = own ** (1 / 7)
        parts = [(high + ramp * (low - high)) ** 7 for high, low in pairwise(roots)]
    return [Schedule(kind, part.float()) for part in parts]  # type: ignore[arg-type]


def student_defaults(config: TrainConfig) -> dict[str, Any]:
    """How an exported student wants to be sampled; keys of `SamplerDefaults`."""
    if not config.student.steps:
        return {}
    ladder = {name: getattr(config.student.teacher, name) for name in ("shift", "sigma_max", "sigma_min")}
    own = {"name": "euler", "steps": config.student.steps, "guidance": "none"}
    return own | {name: value for name, value in ladder.items() if value is not None}


def teacher_evaluations(config: TrainConfig, kind: str) -> float:
    """Network evaluations of a micro-batch's lesson, the mean over the student's steps; 0 without a student."""
    if not config.student.steps:
        return 0.0
    options = config.student.teacher
    guidance = settle_guidance(SamplerDefaults(), options)
    levels = torch.cat([schedule.sigmas[:-1] for schedule in ladders(config, kind)]).tolist()
    branches = sum(1 + guidance.active(level) for level in levels)
    return branches * EVALUATIONS_PER_STEP[options.name or "euler"] / config.student.steps


class Teacher:
    """The frozen model with its sampler.

    Args:
        module: the denoiser before it is prepared for several processes; copied.
        dtype: of the copy's products, as under autocast; None: float32.
    """

    def __init__(self, config: TrainConfig, module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
        self.config, self.dtype = config, dtype
        self.module = copy.deepcopy(module).to(device).eval().requires_grad_(False)
        options = config.student.teacher
        self.solver = get_sampler(options.name or "euler")
        self.guidance = settle_guidance(SamplerDefaults(), options)

    def lesson(
        self,
        x0: Tensor,
        cond: Cond,
        loss: LossSection,
        generators: Callable[[], list[torch.Generator]],
        choice: torch.Generator,
    ) -> tuple[Noised, Tensor]:
        """(a batch at the first level of one of the student's steps, the prediction that the step asks for).

        Args:
            x0: [B, V, F, C, H, W].
            cond: conditions; where the batch has `known` cells and the loss heeds them, those stay clean.
            generators: makes one generator for each sample, always the same.
            choice: decides the step, one for the whole batch.

        Returns:
            The noised batch and [B, V, F, C, H, W], which is x0 at known cells.
        """
        parts = ladders(self.config, loss.kind)
        schedule = parts[int(torch.randint(len(parts), (), generator=choice))]
        first, last = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
        noised = noised_batch(x0, cond.get("known"), loss, generators(), first)
        whole = noised_batch(x0, None, loss, generators(), first).x  # known cells too, as sampling begins
        with torch.no_grad(), torch.autocast(x0.device.type, self.dtype, enabled=self.dtype is not None):
            guided = Guided(self.module, self.guidance, self.config.student.unconditional, cond, x0, noised.unknown)
            arrived = self.solver(guided, whole, schedule)
        line = (arrived - last / first * whole) / (1 - last / first)
        return noised, torch.where(noised.unknown[..., None, None, None], line, x0)


class Guided:
    """A solver's denoiser: guided, and right at known cells."""

    def __init__(
        self, denoise: Denoise, guidance: Guidance, zeroed: tuple[str, ...], cond: Cond, x0: Tensor, unknown: Tensor
    ) -> None:
        self.denoise, self.guidance, self.cond, self.x0, self.unknown = denoise, guidance, cond, x0, unknown
        if missing := set(zeroed) - cond.keys():
            raise UserError(
                f"student.unconditional names {', '.join(sorted(missing))}; the batch has {', '.join(sorted(cond))}"
            )
        self.empty = {name: torch.zeros_like(value) if name in zeroed else value for name, value in cond.items()}
        self.scale = guidance.scale(*x0.shape[1:3]).to(x0.device)

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        """Prediction of x0, like x."""
        del step
        levels = torch.full((len(x),), sigma, device=x.device)
        denoised = self.denoise(x, levels, self.cond)
        if self.guidance.active(sigma):
            denoised = combine(denoised, self.denoise(x, levels, self.empty), self.scale)
        return torch.where(self.unknown[..., None, None, None], denoised.to(self.x0), self.x0)
