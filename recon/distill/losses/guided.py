"""Classifier-free guidance of noise predictions in both of its forms, and the step from a gradient to a loss.

Latents here have any shape [N, ...] with one image or one video per entry of N; the cumulative product alpha-bar of
the timestep (`alpha_bar`, [N] or [1]) stands for the timestep: noisy = √alpha_bar · latents + √(1 − alpha_bar) · noise.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from viewtime.errors import UserError

GuidanceForm = Literal["A", "B"]
"""A: e_c + s (e_c − e_u), what the text-to-image and text-to-video guidances of both papers' code do; its ordinary
scale is s + 1. B: e_u + s (e_c − e_u), what MVDream, VSD and zero123 do."""


def per_entry(value: Tensor, like: Tensor) -> Tensor:
    """[N] or [1] with as many trailing axes of 1 as `like` [N, ...] needs, on its device."""
    if value.ndim != 1 or len(value) not in (1, len(like)):
        raise ValueError(f"one value per entry is needed: [{len(like)}] or [1], got {tuple(value.shape)}")
    return value.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def add_noise(latents: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noisy latents of a timestep, [N, ...]."""
    a = per_entry(alpha_bar, latents).to(latents.dtype)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def clean_from_noise(noisy: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x0 = √(1/a) x_t − √(1/a − 1) e, [N, ...]."""
    a = per_entry(alpha_bar, noisy).to(noisy.dtype)
    return (1 / a).sqrt() * noisy - (1 / a - 1).sqrt() * noise


def noise_from_velocity(noisy: Tensor, velocity: Tensor, alpha_bar: Tensor) -> Tensor:
    """e = √(1 − a) x_t + √a v, for networks that predict v = √a n − √(1 − a) x; [N, ...]."""
    a = per_entry(alpha_bar, noisy).to(noisy.dtype)
    return (1 - a).sqrt() * noisy + a.sqrt() * velocity


def guided(conditional: Tensor, unconditional: Tensor, scale: float, form: GuidanceForm) -> Tensor:
    """Classifier-free guidance of two noise predictions [N, ...].

    Raises:
        UserError: a form other than A and B.
    """
    if form == "A":
        return conditional + scale * (conditional - unconditional)
    if form == "B":
        return unconditional + scale * (conditional - unconditional)
    raise UserError(f"guidance form {form!r}; one of A (from the conditional prediction), B (from the unconditional)")


def surrogate(latents: Tensor, gradient: Tensor) -> Tensor:
    """½ Σ (x − sg(x − g))² / N: a loss [] whose gradient with respect to `latents` [N, ...] is g / N.

    A gradient that is not finite makes the loss so too: the loop skips that step and counts it.
    """
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / len(latents)
