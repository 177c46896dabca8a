"""MVDream's form of score distillation: pull the render to the clean image that the network sees (its eq. 3).

It equals SDS with w(t) = √((1 − a)/a) where nothing is rescaled.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .guided import GuidanceForm, clean_from_noise, guided

SMALLEST_SPREAD = 1e-8


def rescaled(guided_clean: Tensor, plain_clean: Tensor, views: int, rescale: float) -> tuple[Tensor, Tensor]:
    """Blend the guided clean latents with themselves at the spread of the unguided ones (Lin et al. 2023, section 3.4).

    Args:
        guided_clean, plain_clean: [N, ...], with and without guidance; N = scenes · views, a scene's views adjacent.
        rescale: share of the rescaled value, in [0, 1].

    Returns:
        The blend [N, ...], and the factor per scene [N / views].

    Raises:
        ValueError: N is no multiple of `views`.
    """
    if len(guided_clean) % views:
        raise ValueError(f"{len(guided_clean)} images are no whole number of scenes of {views} views")
    spread = rearrange(plain_clean, "(s v) ... -> s (v ...)", v=views).std(dim=1) + SMALLEST_SPREAD
    factor = spread / (rearrange(guided_clean, "(s v) ... -> s (v ...)", v=views).std(dim=1) + SMALLEST_SPREAD)
    per_image = factor.repeat_interleave(views).reshape(-1, *[1] * (guided_clean.ndim - 1))
    return rescale * guided_clean * per_image + (1 - rescale) * guided_clean, factor


def reconstruction_target(
    noisy: Tensor,
    alpha_bar: Tensor,
    conditional: Tensor,
    unconditional: Tensor,
    *,
    scale: float = 50.0,
    form: GuidanceForm = "B",
    rescale: float = 0.5,
    views: int = 4,
) -> Tensor:
    """The clean latents [N, ...] that the guided network sees in `noisy`; see `rescaled`, off at `rescale` 0."""
    target = clean_from_noise(noisy, guided(conditional, unconditional, scale, form), alpha_bar)
    if rescale > 0:
        target, _ = rescaled(target, clean_from_noise(noisy, conditional, alpha_bar), views, rescale)
    return target


def reconstruction_loss(latents: Tensor, target: Tensor) -> Tensor:
    """½ Σ (x − sg(target))² / N over [N, ...]; N counts images, not scenes."""
    return 0.5 * (latents - target.detach()).square().sum() / len(latents)


def timestep_weight_of_reconstruction(alpha_bar: Tensor) -> Tensor:
    """√((1 − a)/a) [N]: the w(t) that makes SDS equal this form at `rescale` 0."""
    return torch.sqrt((1 - alpha_bar) / alpha_bar)
