"""One training sample on its way from a source to a batch, and the random numbers that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.data.solids import Solid
from viewtime.errors import UserError


class CorruptSampleError(UserError):
    """This one sample cannot be used; the loader counts it, names it and goes on."""


@dataclass(frozen=True)
class GridSample:
    """A grid of views × frames.

    Attributes:
        id: names the object-orbit in messages and batches.
        source: name of the stream it came from.
        frames: uint8 [V, F, C, H, W] with C 3 (RGB) or 4 (RGBA, straight alpha); or None for a latent sample.
        cameras: [V, F].
        fps: frames per second.
        latents: float [V, F, C, h, w], or None for a pixel sample.
        clip: CLIP image embeddings, float [V, F, D], or None.
        known: bool [V, F], cells that the model is given; None until `data.views` has drawn them.
        caption: what is to be seen, "" where nobody says.
        provenance: free facts.
        solid: what the object fills, or None where nobody has carved it.
    """

    id: str
    source: str
    frames: Tensor | None
    cameras: Cameras
    fps: float
    latents: Tensor | None = None
    clip: Tensor | None = None
    known: Tensor | None = None
    caption: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    solid: Solid | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "latents", "clip", "known"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape[:2]) != self.cameras.shape:
                raise CorruptSampleError(
                    f"sample {self.id}: {name} is a {value.shape[0]} × {value.shape[1]} grid, "
                    f"cameras are {self.cameras.shape[0]} × {self.cameras.shape[1]}"
                )
        if self.frames is not None and (self.frames.dtype != torch.uint8 or self.frames.shape[2] not in (3, 4)):
            raise CorruptSampleError(
                f"sample {self.id}: frames are {self.frames.dtype} with {self.frames.shape[2]} channels; "
                "they must be uint8 RGB or RGBA"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(V, F)."""
        return self.cameras.shape

    def select(self, views: Tensor, frames: Tensor) -> GridSample:
        """The sub-grid of these view indices [V'] and frame indices [F'], in their order."""

        def pick(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[views][:, frames]

        return replace(
            self,
            frames=pick(self.frames),
            latents=pick(self.latents),
            clip=pick(self.clip),
            known=pick(self.known),
            solid=None if self.solid is None else self.solid.at(frames),
            cameras=self.cameras[views, frames],
        )


def generator_for(*entropy: int) -> np.random.Generator:
    """A generator that depends on these non-negative integers alone (seed, consumer, position…)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
