"""Noise schedules: pure functions from a number of steps to the ladder of noise levels, ending in 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from viewtime.errors import UserError

ScheduleKind = Literal["edm", "flow"]


def edm_sigmas(steps: int, sigma_max: float = 700.0, sigma_min: float = 0.002, rho: float = 7.0) -> Tensor:
    """EDM ladder (Karras et al. 2022, eq. 5): `steps` levels from sigma_max down to sigma_min, then 0; [steps + 1].

    The published SV3D and SV4D scripts use sigma_max 700.
    """
    _check_steps(steps)
    if not 0 < sigma_min < sigma_max:
        raise UserError(f"noise levels {sigma_min}..{sigma_max}: need 0 < sigma_min < sigma_max")
    ramp = torch.linspace(0, 1, steps) if steps > 1 else torch.zeros(1)
    highest, lowest = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (highest + ramp * (lowest - highest)) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


def flow_times(steps: int, shift: float = 1.0) -> Tensor:
    """Rectified-flow times from 1 to 0, [steps + 1]; shift > 1 spends more steps near t = 1.

    t' = shift · t / (1 + (shift − 1) · t), the time shift of Stable Diffusion 3 (Esser et al. 2024, eq. 23).
    """
    _check_steps(steps)
    if shift <= 0:
        raise UserError(f"schedule shift {shift}; must be positive")
    times = torch.linspace(1, 0, steps + 1)
    return shift * times / (1 + (shift - 1) * times)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UserError(f"{steps} sampling steps; at least 1 is needed")


@dataclass(frozen=True)
class Schedule:
    """A ladder of noise levels and what follows from its kind.

    Attributes:
        kind: "edm" (x = x0 + sigma · e) or "flow" (x = (1 − t) · x0 + t · e).
        sigmas: [steps + 1], falling, the last is 0.
    """

    kind: ScheduleKind
    sigmas: Tensor

    @property
    def steps(self) -> int:
        """Number of sampler steps."""
        return len(self.sigmas) - 1

    @property
    def initial_scale(self) -> float:
        """Factor that turns standard normal noise into the first state: sqrt(1 + sigma²) for EDM, 1 for flow."""
        return math.sqrt(1.0 + float(self.sigmas[0]) ** 2) if self.kind == "edm" else 1.0

    def signal(self, sigma: Tensor | float) -> Tensor | float:
        """Coefficient of x0 in the noisy state at that level."""
        return 1.0 if self.kind == "edm" else 1.0 - sigma


def make_schedule(
    kind: ScheduleKind,
    steps: int,
    *,
    sigma_max: float = 700.0,
    sigma_min: float = 0.002,
    rho: float = 7.0,
    shift: float = 1.0,
) -> Schedule:
    """The schedule that a denoiser's `schedule_kind` asks for; arguments of the other kind are ignored."""
    if kind == "edm":
        return Schedule("edm", edm_sigmas(steps, sigma_max, sigma_min, rho))
    if kind == "flow":
        return Schedule("flow", flow_times(steps, shift))
    raise UserError(f"unknown schedule kind {kind!r}; one of: edm, flow")
