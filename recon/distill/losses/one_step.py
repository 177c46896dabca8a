"""Dream-in-4D's video loss: the render follows the video that a few deterministic-length denoising steps reach (eq. 4).

One step is the default; each is DDIM's with eta = 1 (Song et al. 2021, eq. 12), so fresh noise of the posterior's
variance enters. The target is pulled to in latents and, decoded, in colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .guided import clean_from_noise, per_entry


class DdimStep(NamedTuple):
    """One step from `timestep` to `previous`; a negative `previous` is the end of the noise schedule."""

    timestep: int
    previous: int


def ddim_steps(timestep: int, steps: int, trained: int = 1000) -> Iterator[DdimStep]:
    """The steps from `timestep` down in strides of trained // steps while the timestep is above 0."""
    stride = trained // steps
    while timestep > 0:
        yield DdimStep(timestep, timestep - stride)
        timestep -= stride


def ddim_update(noisy: Tensor, predicted: Tensor, alpha_bar: Tensor, previous: Tensor, noise: Tensor | None) -> Tensor:
    """The noisier value's successor [N, ...].

    Args:
        noisy, predicted: x_t and the guided noise in it, [N, ...].
        alpha_bar, previous: of this timestep and of the one stepped to, [N] or [1].
        noise: fresh noise like `noisy` (eta = 1), or None (eta = 0).
    """
    a, b = (per_entry(value, noisy).to(noisy.dtype) for value in (alpha_bar, previous))
    variance = (1 - b) / (1 - a) * (1 - a / b) if noise is not None else torch.zeros_like(a)
    mean = b.sqrt() * clean_from_noise(noisy, predicted, alpha_bar) + (1 - b - variance).sqrt() * predicted
    return mean if noise is None else mean + variance.sqrt() * noise


def latent_loss(latents: Tensor, target: Tensor) -> Tensor:
    """½ Σ (x − sg(target))² / N over videos [N, ...]; no w(t)."""
    return 0.5 * (latents - target.detach()).square().sum() / len(latents)


def color_loss(frames: Tensor, target: Tensor) -> Tensor:
    """Σ (frame − sg(target))² / N over videos [N, ...] of colours in [0, 1] at the guidance's size; no ½."""
    return (frames - target.detach()).square().sum() / len(frames)
