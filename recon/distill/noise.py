"""The noise schedules of the published guidances: alpha-bar tables of 1000 timesteps.

The networks were trained with float32 tables, so these are computed as the trainers did and then widened; the two
forms of Stable Diffusion's table differ by up to 5e-7.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from .guidance.base import NoiseSchedule

TRAINED_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
LARGEST_BETA = 0.999


def scaled_linear_schedule(*, ends_at_one: bool = False, form: str = "diffusers") -> NoiseSchedule:
    """Stable Diffusion's: √beta rises linearly from √0.00085 to √0.012.

    Args:
        ends_at_one: the step after the last one has a = 1 (diffusers' `set_alpha_to_one`) instead of alpha_bar[0].
        form: "diffusers" computes in float32, "ldm" (MVDream, zero123) in float64 and rounds.
    """
    dtype = torch.float32 if form == "diffusers" else torch.float64
    root = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINED_STEPS, dtype=dtype)
    return schedule_of_betas(root.square(), ends_at_one=ends_at_one)


def cosine_schedule() -> NoiseSchedule:
    """DeepFloyd IF's `squaredcos_cap_v2`: a(u) = cos²((u + 0.008) / 1.008 · π/2), betas at most 0.999."""

    def level(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    shares = [step / TRAINED_STEPS for step in range(TRAINED_STEPS + 1)]
    betas = [min(1 - level(b) / level(a), LARGEST_BETA) for a, b in pairwise(shares)]
    return schedule_of_betas(torch.tensor(betas, dtype=torch.float32), ends_at_one=True)


def schedule_of_betas(betas: torch.Tensor, *, ends_at_one: bool) -> NoiseSchedule:
    """The schedule of a table of betas [T], in the betas' precision, rounded to float32."""
    table = (1 - betas).cumprod(dim=0).float().double()
    return NoiseSchedule(table, 1.0 if ends_at_one else table[0].item())
