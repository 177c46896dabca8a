"""Training on the model's own drafts (backward simulation; Yin et al. 2024, DMD2, section 4.5).

A sampler of few steps goes on from what the model made out of pure noise, which is blurred. A network that has only
seen noised truth at lower levels takes the blur for knowledge and keeps it. Here some samples are noised from such a
draft instead of the truth, so that the later steps learn to correct the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from viewtime.configs.schema.loss import LossSection
from viewtime.train.transfer import to_device

from .losses import Cond, Noised, add_noise, draw_level, draw_noise

Denoise = Callable[[Tensor, Tensor, Cond], Tensor]


def with_drafts(
    noised: Noised, denoise: Denoise, cond: Cond, loss: LossSection, generators: list[torch.Generator]
) -> Noised:
    """Noise a share of `loss.drafted` of the samples anew: x_t = (1 - t) draft + t e, the draft made of the same e.

    A drafted sample's error is the draft's at any t, so its loss has the weight of `level` 1.

    Args:
        noised: the batch, noised from the truth.
        denoise: (x, sigma, cond) -> x0, [B, V, F, C, H, W]; called once without gradient, also where no sample is
            drafted: processes that share a model's parts answer together or not at all.
        generators: one for each sample.
    """
    chosen = [float(torch.rand((), generator=generator)) < loss.drafted for generator in generators]
    free = replace(loss, point_mass=0.0)
    levels = torch.tensor([draw_level(free, generator) for generator in generators])
    noise = torch.stack([draw_noise(noised.x.shape[1:], loss, generator) for generator in generators])
    noise = to_device(noise, noised.x.device, noised.x.dtype)
    hidden = noised.unknown[..., None, None, None]
    with torch.no_grad():
        highest = noised.unknown.to(noised.sigma)
        draft = denoise(torch.where(hidden, noise, noised.x), highest, cond).to(noised.x)
    sigma = levels.to(noised.sigma)[:, None, None] * noised.unknown
    x = torch.where(hidden, add_noise(draft, sigma[..., None, None, None], noise, loss.kind), noised.x)
    here = torch.tensor(chosen, device=noised.x.device)
    return Noised(
        torch.where(here.view(-1, 1, 1, 1, 1, 1), x, noised.x),
        torch.where(here.view(-1, 1, 1), sigma, noised.sigma),
        torch.where(here, torch.ones_like(noised.level), noised.level),
        noised.unknown,
    )
