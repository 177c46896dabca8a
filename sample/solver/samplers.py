"""Deterministic samplers over the one denoiser call.

In EDM (x = x0 + sigma e) and in rectified flow (x = (1 − t) x0 + t e) alike, the probability-flow ODE reads
dx/dsigma = (x − D(x, sigma)) / sigma, so Euler, Heun and midpoint are the same code for both. DPM-Solver++ works
in the half log signal-to-noise ratio and needs the signal coefficient of the schedule besides.

`denoise(x, sigma, step)` returns the guided x0 prediction; `step` is the index of the sampler step, which decides
the direction of SV4D's alternating windows. Second evaluations within a step carry the same index.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from viewtime.errors import UserError

from .schedules import Schedule

Denoise = Callable[[Tensor, float, int], Tensor]
OnStep = Callable[[int, Tensor, Tensor], None]


def _no_report(step: int, x: Tensor, denoised: Tensor) -> None:
    del step, x, denoised


def euler(denoise: Denoise, x: Tensor, schedule: Schedule, on_step: OnStep = _no_report) -> Tensor:
    """First order, one evaluation per step; the published scripts' sampler (no churn)."""
    sigmas = schedule.sigmas.tolist()
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma, step)
        x = x + (x - denoised) * ((following - sigma) / sigma)
        on_step(step, x, denoised)
    return x


def heun(denoise: Denoise, x: Tensor, schedule: Schedule, on_step: OnStep = _no_report) -> Tensor:
    """Second order, two evaluations per step but the last (EDM, algorithm 1 without churn)."""
    sigmas = schedule.sigmas.tolist()
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma, step)
        slope = (x - denoised) / sigma
        predicted = x + (following - sigma) * slope
        if following > 0:
            corrected = (predicted - denoise(predicted, following, step)) / following
            predicted = x + (following - sigma) * (slope + corrected) / 2
        x = predicted
        on_step(step, x, denoised)
    return x


def midpoint(denoise: Denoise, x: Tensor, schedule: Schedule, on_step: OnStep = _no_report) -> Tensor:
    """Second order: the slope half way between two noise levels, two evaluations per step."""
    sigmas = schedule.sigmas.tolist()
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma, step)
        middle = (sigma + following) / 2
        half_way = x + (x - denoised) * ((middle - sigma) / sigma)
        slope = (half_way - denoise(half_way, middle, step)) / middle
        x = x + (following - sigma) * slope
        on_step(step, x, denoised)
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, schedule: Schedule, on_step: OnStep = _no_report) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation per step.

    A step whose log signal-to-noise is infinite at one end (flow's t = 1, the last step to 0) is first order.
    """
    sigmas = schedule.sigmas.tolist()
    previous: Tensor | None = None
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma, step)
        estimate = denoised
        if previous is not None and following > 0:
            last_width = _half_log_snr(schedule, sigma) - _half_log_snr(schedule, sigmas[step - 1])
            width = _half_log_snr(schedule, following) - _half_log_snr(schedule, sigma)
            weight = width / (2 * last_width) if math.isfinite(last_width) else 0.0
            estimate = (1 + weight) * denoised - weight * previous
        ratio = following / sigma
        x = ratio * x + (schedule.signal(following) - ratio * schedule.signal(sigma)) * estimate
        previous = denoised
        on_step(step, x, denoised)
    return x


def _half_log_snr(schedule: Schedule, sigma: float) -> float:
    signal = float(schedule.signal(sigma))
    return math.log(signal / sigma) if signal > 0 else -math.inf


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler": euler,
    "heun": heun,
    "midpoint": midpoint,
    "dpmpp-2m": dpmpp_2m,
}
EVALUATIONS_PER_STEP = {"euler": 1, "heun": 2, "midpoint": 2, "dpmpp-2m": 1}


def get_sampler(name: str) -> Callable[..., Tensor]:
    """The sampler of that name.

    Raises:
        UserError: no such sampler.
    """
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler {name!r}; one of: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
