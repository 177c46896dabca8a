"""Variational score distillation (ProlificDreamer, eq. 7-9) as 4D-fy uses it: one scene, a LoRA copy that sees cameras.

The copy learns the score of the current renders; the scene follows the difference of the two scores.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .guided import per_entry, surrogate

Prediction = Literal["noise", "velocity"]


def vsd_gradient(pretrained: Tensor, copy: Tensor, alpha_bar: Tensor) -> Tensor:
    """(1 − a) (e_pretrained − e_copy), [N, ...]; both are guided noise predictions. The rendered noise cancels."""
    return per_entry(1 - alpha_bar, pretrained).to(pretrained.dtype) * (pretrained - copy)


def vsd_loss(latents: Tensor, alpha_bar: Tensor, pretrained: Tensor, copy: Tensor) -> Tensor:
    """Loss [] whose gradient with respect to `latents` [N, ...] is `vsd_gradient` / N."""
    return surrogate(latents, vsd_gradient(pretrained, copy, alpha_bar))


def copy_target(latents: Tensor, noise: Tensor, alpha_bar: Tensor, predicts: Prediction) -> Tensor:
    """What the copy should answer: the noise, or v = √a n − √(1 − a) x; [N, ...]."""
    if predicts == "noise":
        return noise
    a = per_entry(alpha_bar, latents).to(latents.dtype)
    return a.sqrt() * noise - (1 - a).sqrt() * latents


def copy_loss(
    prediction: Tensor, latents: Tensor, noise: Tensor, alpha_bar: Tensor, predicts: Prediction = "noise"
) -> Tensor:
    """Mean squared error [] of the copy's raw prediction on detached latents, over all elements.

    Args:
        prediction: with gradient to the copy's parameters; latents, noise: [N, ...]; alpha_bar: [N] of the copy's
            own timesteps.
    """
    target = copy_target(latents.detach(), noise, alpha_bar, predicts)
    return (prediction - target).square().mean()
