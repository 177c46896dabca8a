"""The exact denoiser of a known scene's renderings: what a perfect network that knows this scene alone would predict.

For a set of equally likely pictures m_k the noise in x_t is (x_t − √a x̂) / √(1 − a) with x̂ = Σ_k w_k m_k and
w = softmax(−|x_t − √a m_k|² / 2(1 − a)) over whole entries: all views, or all frames, that the kind looks at together.
What a real guidance does not know, the set leaves open: from where a picture was taken, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from viewtime.cameras import Cameras

from ..noise import scaled_linear_schedule
from ..resize import resized
from .base import Draws, Kind, NoisePrediction, Rendered, Traits, check_layout

KnownScene = Callable[[Cameras, Tensor, tuple[int, int]], Tensor]
"""Cameras [V, F], instants [F] in [0, 1], (height, width) -> premultiplied RGB and opacity, [V, F, 4, H, W]."""


@dataclass(frozen=True)
class Knowledge:
    """What the denoiser knows beside the scene.

    Attributes:
        camera: own: it sees from where; any: it has seen the scene from `azimuths` sides and is not told which; front:
            it has seen the front alone, whatever the camera (the cause of many-faced objects).
        time: own: it is told when; any: one of `instants` moments, but the same for all that it looks at together.
        blur: the pictures are known at 1 / blur of the size.
    """

    camera: Literal["own", "any", "front"] = "own"
    time: Literal["own", "any"] = "own"
    azimuths: int = 8
    instants: int = 8
    blur: int = 1


@dataclass(frozen=True)
class KnownPrompt:
    """The scene needs no words; `text` is for records."""

    text: str


class AnalyticGuidance:
    """See `Guidance`. A cell's latent is the foreground's premultiplied RGB and its opacity, so no background matters.

    The conditional and the unconditional prediction are equal: a guidance scale changes nothing.

    Args:
        known: renders the scene; its pictures are made anew in every call.
        views, frames: what it looks at together, see `Traits`.
    """

    def __init__(
        self,
        name: str,
        known: KnownScene,
        kind: Kind,
        size: tuple[int, int],
        *,
        views: int = 1,
        frames: int = 1,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.known, self.knowledge = known, knowledge or Knowledge()
        latent = (4, *size)
        schedule = scaled_linear_schedule()
        self.traits = Traits(name, kind, size, latent, schedule, views=views, frames=frames, wants_text=False)
        self._times = torch.zeros(1)

    def encode(self, rendered: Rendered, draws: Draws) -> Tensor:
        """See `Guidance`; remembers the render's instants for the prediction."""
        del draws
        check_layout(self.traits, *rendered.color.shape[1:3])
        self._times = torch.zeros(rendered.color.shape[2]) if rendered.times is None else rendered.times
        return resized(torch.cat([rendered.foreground, rendered.opacity], dim=3), self.traits.size)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Guidance`; over white."""
        return (latents[:, :, :, :3] + 1 - latents[:, :, :, 3:]).clamp(0, 1)

    @torch.no_grad()
    def predict(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: Any, *, unconditional: bool = True
    ) -> NoisePrediction:
        """See `Guidance`."""
        del prompt, unconditional
        if len(self._times) != noisy.shape[2]:  # nothing was rendered: the whole clip
            self._times = torch.arange(noisy.shape[2], dtype=torch.float64) / noisy.shape[2]
        a = self.traits.schedule.at(timesteps.flatten()).to(noisy).reshape(*timesteps.shape, 1, 1, 1)
        clean = torch.stack([self._clean(noisy[b], a[b], cameras[b]) for b in range(len(noisy))])
        noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
        return NoisePrediction(noise, noise)

    def _clean(self, noisy: Tensor, a: Tensor, cameras: Cameras) -> Tensor:
        """x̂ [V, F, C, h, w] of one scene; a [V, F, 1, 1, 1]."""
        modes = torch.stack([self._pictures(*where) for where in self._modes(cameras)]).to(noisy)
        if len(modes) == 1:
            return modes[0]
        distance = (noisy - a.sqrt() * modes).square() / (2 * (1 - a))
        together = {Kind.IMAGE: (3, 4, 5), Kind.VIDEO: (2, 3, 4, 5)}.get(self.traits.kind, (1, 2, 3, 4, 5))
        weight = torch.softmax(-distance.sum(dim=together, keepdim=True), dim=0)
        return (weight * modes).sum(dim=0)

    def _modes(self, cameras: Cameras) -> list[tuple[Cameras, Tensor]]:
        """From where and when the pictures may have been taken."""
        k, turned = self.knowledge, [cameras]
        if k.camera == "front":
            turned = [replace(cameras, azimuth=torch.zeros_like(cameras.azimuth))]
        elif k.camera == "any":
            turned = [replace(cameras, azimuth=cameras.azimuth + 360.0 * n / k.azimuths) for n in range(k.azimuths)]
        times = [self._times]
        if k.time == "any":
            span = self._times - self._times[0]
            times = [span + (1 - float(span[-1])) * n / max(1, k.instants - 1) for n in range(k.instants)]
        return [(one, when) for one in turned for when in times]

    def _pictures(self, cameras: Cameras, times: Tensor) -> Tensor:
        height, width = self.traits.size
        blur = self.knowledge.blur
        seen = self.known(cameras, times, (height // blur, width // blur))
        return resized(seen[None], (height, width))[0] if blur > 1 else seen
