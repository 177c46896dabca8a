"""diffusers' networks as guidance: images (Stable Diffusion, DeepFloyd IF) and videos (Zeroscope, ModelScope)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras

from ..losses.guided import noise_from_velocity
from ..losses.vsd import Prediction
from ..resize import resized
from .base import Draws, Kind, NoisePrediction, NoiseSchedule, Rendered, Traits, check_layout
from .codec import Codec
from .prompts import TextPrompt
from .published_cameras import angles

ENTRIES = {
    Kind.IMAGE: ("b v f c h w", "(b v f) c h w"),
    Kind.MULTI_VIEW: ("b v f c h w", "(b v f) c h w"),
    Kind.VIDEO: ("b v f c h w", "(b v) c f h w"),
}
"""A grid of cells, and how a kind's networks take it."""


@dataclass(frozen=True)
class Branch:
    """Conditions of one evaluation of a network for N entries.

    Attributes:
        tokens: for cross-attention, [N, L, D].
        named: further arguments of the network by name, [N, ...] each.
        beside: channels appended to the noisy ones, [N, C', h, w].
    """

    tokens: Tensor
    named: dict[str, Tensor] = field(default_factory=dict)
    beside: Tensor | None = None


def joined(branches: Sequence[Branch]) -> Branch:
    """Several branches as one batch."""
    beside = [branch.beside for branch in branches if branch.beside is not None]
    return Branch(
        torch.cat([branch.tokens for branch in branches]),
        {name: torch.cat([branch.named[name] for branch in branches]) for name in branches[0].named},
        torch.cat(beside) if beside else None,
    )


def evaluate(network: Any, x: Tensor, timesteps: Tensor, branch: Branch) -> Tensor:
    """What a diffusers network predicts for x [N, C, ...] at timesteps [N], in x's dtype.

    Output channels beyond the input's (IF's learned variance) are left out.
    """
    dtype = network.dtype
    named = {name: value.to(x.device, dtype) for name, value in branch.named.items()}
    tokens = branch.tokens.to(x.device, dtype)
    entered = x if branch.beside is None else torch.cat([x, branch.beside.to(x)], dim=1)
    predicted = network(entered.to(dtype), timesteps.to(x.device), encoder_hidden_states=tokens, **named).sample
    return predicted[:, : x.shape[1]].to(x.dtype)


class NetworkGuidance:
    """A frozen diffusers network as `Guidance`; subclasses say what its branches are.

    Args:
        network: `UNet2DConditionModel` or `UNet3DConditionModel`.
        schedule: the noise that it was trained with.
        codec: its autoencoder, or `Pixels`.
        size: (height, width) in pixels that it sees.
        predicts: noise or velocity.
        views, frames: see `Traits`.
        split: evaluate the conditional and the unconditional branch one after the other, which halves the memory.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        network: Any,
        schedule: NoiseSchedule,
        codec: Codec,
        size: tuple[int, int],
        *,
        predicts: Prediction = "noise",
        views: int = 1,
        frames: int = 1,
        split: bool = False,
        wants_reference: bool = False,
    ) -> None:
        self.network, self.codec, self.split = network, codec, split
        self.predicts: Prediction = predicts
        latent = (codec.channels, size[0] // codec.downscale, size[1] // codec.downscale)
        wants = {"wants_text": not wants_reference, "wants_reference": wants_reference}
        self.traits = Traits(name, kind, size, latent, schedule, views=views, frames=frames, **wants)

    def pictures(self, rendered: Rendered) -> Tensor:
        """What of a render the network sees, RGB in [0, 1], [B, V, F, 3, H, W]."""
        return rendered.color

    def branches(self, prompt: Any, elevation: Tensor, azimuth: Tensor, distance: Tensor) -> list[Branch]:
        """The conditional and the unconditional branch for cameras [N] in degrees and world units."""
        raise NotImplementedError

    def encode(self, rendered: Rendered, draws: Draws) -> Tensor:
        """See `Guidance`."""
        check_layout(self.traits, *rendered.color.shape[1:3])
        return self.codec.encode(resized(self.pictures(rendered), self.traits.size), draws)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """See `Guidance`."""
        return self.codec.decode(latents)

    @torch.no_grad()
    def predict(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: Any, *, unconditional: bool = True
    ) -> NoisePrediction:
        """See `Guidance`; a video has the camera of its first frame."""
        check_layout(self.traits, *noisy.shape[1:3])
        kind = self.traits.kind
        x = rearrange(noisy, " -> ".join(ENTRIES[kind]))
        per_cell = (timesteps, *angles(cameras))
        t, *camera = (value[:, :, 0].flatten() if kind is Kind.VIDEO else value.flatten() for value in per_cell)
        branches = self.branches(prompt, *camera)[: 2 if unconditional else 1]
        if self.split or len(branches) == 1:
            found = [evaluate(self.network, x, t, branch) for branch in branches]
        else:
            doubled = evaluate(self.network, torch.cat([x, x]), t.repeat(2), joined(branches))
            found = list(doubled.chunk(2))
        if self.predicts == "velocity":
            a = self.traits.schedule.at(t.to(x.device))
            found = [noise_from_velocity(x, value, a) for value in found]
        grids = [rearrange(value, " -> ".join(reversed(ENTRIES[kind])), **_axes(noisy, kind)) for value in found]
        return NoisePrediction(grids[0], grids[-1])


def _axes(noisy: Tensor, kind: Kind) -> dict[str, int]:
    """Sizes that a rearrangement back to the grid cannot infer."""
    B, V, F = noisy.shape[:3]
    return {"b": B, "v": V} if kind is Kind.VIDEO else {"b": B, "v": V, "f": F}


class TextGuidance(NetworkGuidance):
    """A network that is told a text alone: Stable Diffusion, DeepFloyd IF, Zeroscope, ModelScope."""

    def branches(self, prompt: TextPrompt, elevation: Tensor, azimuth: Tensor, distance: Tensor) -> list[Branch]:
        """Text, and the negative prompt."""
        del distance
        return [Branch(tokens) for tokens in prompt.pair(elevation, azimuth)]
