"""What a guidance receives and returns: a frozen denoiser behind one call.

A step of score distillation is: render -> `encode` -> add noise -> `predict` -> a loss of `losses/`. `predict` is the
one call; everything that a network wants of a render (size, layout, cameras in its own convention, embeddings of the
prompt) is behind it. Grids are [B, V, F, C, H, W]: B scenes, V views of each, F frames of each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from viewtime.cameras import Cameras
from viewtime.errors import UserError

from ..losses.vsd import Prediction


class Kind(Enum):
    """What a guidance looks at together; everything else in a batch is independent."""

    IMAGE = "image"
    """Single pictures: V and F are free, each cell is one entry."""
    MULTI_VIEW = "multi-view"
    """`views` views of one instant: F = 1."""
    VIDEO = "video"
    """One view over time: V is free, each row is one entry."""
    GRID = "grid"
    """`views` views over `frames` frames."""


@dataclass(frozen=True)
class Rendered:
    """What the scene showed.

    Attributes:
        color: RGB in [0, 1] over the scene's background, with gradient, [B, V, F, 3, H, W].
        opacity: in [0, 1], [B, V, F, 1, H, W].
        foreground: Σ w c, the colour without a background (premultiplied), [B, V, F, 3, H, W].
        cameras: one per scene B, each [V, F].
        times: the scene's instants in [0, 1], float64 [F], where somebody knows them; no learned guidance asks.
    """

    color: Tensor
    opacity: Tensor
    foreground: Tensor
    cameras: tuple[Cameras, ...]
    times: Tensor | None = None

    def __post_init__(self) -> None:
        B, V, F, C, H, W = self.color.shape
        if C != 3 or self.opacity.shape != (B, V, F, 1, H, W) or self.foreground.shape != self.color.shape:
            raise ValueError(
                f"color {tuple(self.color.shape)}, opacity {tuple(self.opacity.shape)} and foreground "
                f"{tuple(self.foreground.shape)} must be [B, V, F, 3 or 1, H, W] of the same sizes"
            )
        if len(self.cameras) != B or any(cameras.shape != (V, F) for cameras in self.cameras):
            raise ValueError(f"{B} cameras of shape {(V, F)} are needed, one per scene")

    def on_white(self) -> Tensor:
        """RGB over white [B, V, F, 3, H, W]."""
        return self.foreground + 1 - self.opacity

    def select(self, scenes: Tensor, views: Tensor) -> Rendered:
        """Single views of the batch as scenes of one view each; `scenes` and `views` are int64 [N]."""
        color, opacity, foreground = (
            value[scenes, views][:, None] for value in (self.color, self.opacity, self.foreground)
        )
        cameras = tuple(self.cameras[b][v] for b, v in zip(scenes.tolist(), views.tolist()))
        return Rendered(color, opacity, foreground, cameras, self.times)


class NoisePrediction(NamedTuple):
    """The noise that the network sees, float32 (float64 for float64 input), each [B, V, F, C, h, w]."""

    conditional: Tensor
    unconditional: Tensor
    """Equal to `conditional` where the unconditional branch was not asked for."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Discrete variance-preserving schedule: noisy = √a x + √(1 − a) n at timestep t, a = alpha_bar[t].

    Attributes:
        alpha_bar: [T], float64.
        final_alpha_bar: a of the step after the last one; 1 where a scheduler has `set_alpha_to_one`, else
            `alpha_bar[0]`.
    """

    alpha_bar: Tensor
    final_alpha_bar: float

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def at(self, timesteps: Tensor) -> Tensor:
        """a [N] in float64 at int64 timesteps [N] on any device; a negative timestep is the end."""
        table = self.alpha_bar.to(timesteps.device)
        return torch.where(timesteps >= 0, table[timesteps.clamp_min(0)], self.final_alpha_bar)


@dataclass(frozen=True)
class Traits:
    """What a loop must know of a guidance.

    Attributes:
        name: for people and records.
        kind: what it looks at together.
        views, frames: how many of them the network takes at once; 1 for what the kind leaves free. A VIDEO guidance
            takes other lengths too; this is the one that it was trained at.
        size: (height, width) in pixels to which `encode` resizes.
        latent: (C, h, w) of one cell after `encode`.
        schedule: its noise.
        wants_text: whether `predict` needs embeddings of a text.
        wants_reference: whether it needs a reference picture or clip.
    """

    name: str
    kind: Kind
    size: tuple[int, int]
    latent: tuple[int, int, int]
    schedule: NoiseSchedule
    views: int = 1
    frames: int = 1
    wants_text: bool = True
    wants_reference: bool = False


class Prompt(Protocol):
    """What to make; the guidances of one kind agree on a class (`TextPrompt`, `ReferencePrompt`, `ClipPrompt`)."""

    @property
    def text(self) -> str:
        """What the user wrote, for records."""
        ...


class Guidance(Protocol):
    """A frozen denoiser behind one call. Nothing in it is trained; gradients flow through `encode` alone."""

    traits: Traits

    def encode(self, rendered: Rendered, draws: Draws) -> Tensor:
        """Renders to clean latents, with gradient to the render.

        Args:
            rendered: of any size; it is resized to `traits.size`.
            draws: where the autoencoder's posterior gets its noise.

        Returns:
            [B, V, F, C, h, w], scaled as the network takes them.

        Raises:
            UserError: V or F do not fit the kind.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[B, V, F, C, h, w] -> RGB in [0, 1], [B, V, F, 3, H, W]."""
        ...

    def predict(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: Any, *, unconditional: bool = True
    ) -> NoisePrediction:
        """The noise in `noisy`, without gradient.

        Args:
            noisy: [B, V, F, C, h, w].
            timesteps: int64 [B, V, F], equal in all cells that the network looks at together.
            cameras: one per scene, each [V, F].
            prompt: of the class that the guidance asks for.
            unconditional: also evaluate the unconditional branch.
        """
        ...


class CameraCopy(Protocol):
    """VSD's second denoiser: a trainable copy that sees the camera and learns the score of the current renders."""

    predicts: Prediction
    schedule: NoiseSchedule

    def parameters(self) -> Sequence[nn.Parameter]:
        """What is trained: LoRA and camera embedding."""
        ...

    def predict(self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: Any) -> NoisePrediction:
        """Noise predictions of the copy without gradient: with text and camera, and with neither.

        The unconditional branch has a camera of zeros, as in 4D-fy's code; at a scale of 1 it has no effect.
        """
        ...

    def train_prediction(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: Any, *, drop_camera: bool
    ) -> Tensor:
        """The raw prediction (noise or velocity, see `predicts`) with gradient to `parameters`, [B, V, F, C, h, w]."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What was trained, by name, for checkpoints."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state_dict`; raises KeyError for a state of another network."""
        ...


class Draws(Protocol):
    """Where a step's random numbers come from; tests give stored ones."""

    def normal(self, name: str, like: Tensor) -> Tensor:
        """Standard normal values of the shape, dtype and device of `like`."""
        ...

    def timesteps(self, name: str, count: int, low: int, high: int) -> Tensor:
        """int64 [count], uniform over the closed range [low, high], on the CPU."""
        ...

    def uniform(self, name: str, count: int) -> Tensor:
        """Numbers in [0, 1), float64 [count], on the CPU."""
        ...


@dataclass
class SeededDraws:
    """Draws of one seed, made on the CPU so that a seed means the same on every device."""

    seed: int
    generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def normal(self, name: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        del name
        return torch.randn(like.shape, generator=self.generator).to(like)

    def timesteps(self, name: str, count: int, low: int, high: int) -> Tensor:
        """See `Draws`."""
        del name
        return torch.randint(low, high + 1, (count,), generator=self.generator)

    def uniform(self, name: str, count: int) -> Tensor:
        """See `Draws`."""
        del name
        return torch.rand(count, generator=self.generator, dtype=torch.float64)

    def state(self) -> Tensor:
        """For checkpoints; put back by `restore`."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go on from a state."""
        self.generator.set_state(state)


def check_layout(traits: Traits, views: int, frames: int) -> None:
    """Raise UserError unless a batch's V and F fit the guidance."""
    if traits.kind in (Kind.MULTI_VIEW, Kind.GRID) and views != traits.views:
        raise UserError(f"{traits.name} looks at {traits.views} views together; the batch has {views}")
    if traits.kind is Kind.MULTI_VIEW and frames != 1:
        raise UserError(f"{traits.name} looks at views of one instant; the batch has {frames} frames")
    if traits.kind is Kind.GRID and frames != traits.frames:
        raise UserError(f"{traits.name} looks at {traits.frames} frames together; the batch has {frames}")
