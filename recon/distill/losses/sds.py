"""Score distillation sampling of images, pixels and videos (DreamFusion, eq. 3; 4D-fy, eq. 3 and 5)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from viewtime.errors import UserError

from .guided import GuidanceForm, guided, per_entry, surrogate

Weighting = Literal["sds", "uniform", "fantasia3d"]


def timestep_weight(alpha_bar: Tensor, weighting: Weighting) -> Tensor:
    """w(t) [N]: 1 − a (sds), 1 (uniform) or √a (1 − a) (fantasia3d).

    Raises:
        UserError: another name.
    """
    if weighting == "sds":
        return 1 - alpha_bar
    if weighting == "uniform":
        return alpha_bar.new_ones(alpha_bar.shape)
    if weighting == "fantasia3d":
        return alpha_bar.sqrt() * (1 - alpha_bar)
    raise UserError(f"weighting {weighting!r}; one of {', '.join(Weighting.__args__)}")


def sds_gradient(
    conditional: Tensor,
    unconditional: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    *,
    scale: float,
    form: GuidanceForm = "A",
    weighting: Weighting = "sds",
    clamp: float | None = None,
    motion: float = 1.0,
    frame_axis: int = 1,
) -> Tensor:
    """w(t) (e_hat − n), [N, ...].

    Args:
        conditional, unconditional: noise predictions of the frozen network; noise: what was added; [N, ...].
        alpha_bar: [N] or [1].
        scale, form: guidance, see `guided`.
        clamp: limit of each element's magnitude; None: no limit.
        motion: factor on the part of the residual that differs from its mean over frames (VideoCrafter2 in 4D-fy's
            code takes 30); 1 leaves it.
        frame_axis: which axis of a video's [N, ...] holds its frames; used by `motion` alone.
    """
    residual = guided(conditional, unconditional, scale, form) - noise
    if motion != 1:
        steady = residual.mean(dim=frame_axis, keepdim=True)
        residual = steady + motion * (residual - steady)
    gradient = per_entry(timestep_weight(alpha_bar, weighting), residual).to(residual.dtype) * residual
    return gradient if clamp is None else gradient.clamp(-clamp, clamp)


def sds_loss(
    latents: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    conditional: Tensor,
    unconditional: Tensor,
    *,
    scale: float,
    form: GuidanceForm = "A",
    weighting: Weighting = "sds",
    clamp: float | None = None,
    motion: float = 1.0,
    frame_axis: int = 1,
) -> Tensor:
    """Loss [] with gradient `sds_gradient` / N; N images, or N videos whose frames are summed over."""
    gradient = sds_gradient(
        conditional, unconditional, noise, alpha_bar,
        scale=scale, form=form, weighting=weighting, clamp=clamp, motion=motion, frame_axis=frame_axis,
    )  # fmt: skip
    return surrogate(latents, gradient)
