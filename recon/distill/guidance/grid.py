"""Our own grid models (mini, SV3D, SV4D, SV4D 2.0) as multi-view and video guidance through `model/denoiser.py`'s call.

They know noise as sigma (EDM) or as a time (rectified flow); both are scalings of the variance-preserving noise that
the losses use, so one table of timesteps serves them:
EDM: x = noisy / √a, sigma = √((1 − a)/a). Flow: x = noisy / (√a + √(1 − a)), time = √(1 − a) / (√a + √(1 − a)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.images import composite
from viewtime.model.denoiser import Conditioning, Denoiser
from viewtime.sample.models.grid_model import GridModel, Request, stack_conditions
from viewtime.sample.models.video_grid_model import VideoGridModel
from viewtime.sample.plan.plan import Cell, Direction, Window

from ..losses.guided import per_entry
from ..resize import resized
from .base import Draws, Kind, NoisePrediction, NoiseSchedule, Rendered, Traits


@dataclass(frozen=True)
class ClipPrompt:
    """An input view over time that the scene should agree with.

    Attributes:
        text: of what, for records.
        frames: [F, C, S, S] in [0, 1], RGB on white or RGBA with straight alpha, of the model's size.
        camera: the input view's, [1, F].
        references: for SV4D, the pictures [V, C, S, S] of all views at the first frame; the steps' cameras must then
            be these views'.
    """

    text: str
    frames: Tensor
    camera: Cameras
    references: Tensor | None = None


class GridGuidance:
    """See `Guidance`; V and F are the model's novel views and frames.

    Args:
        model: loaded, frozen; a network without latents (mini) or with them.
        schedule: the noise of the losses; any table does.
        views, frames: of a batch; None: the model's window. frames 1 makes it a multi-view guidance, views 1 one
            for videos.
        chunk: frames encoded at a time; each is encoded again in the backward pass.
    """

    def __init__(
        self,
        model: GridModel,
        schedule: NoiseSchedule,
        *,
        views: int | None = None,
        frames: int | None = None,
        chunk: int = 1,
    ) -> None:
        self.model, self.chunk = model, chunk
        given = model.traits
        V, F = views or given.novel_views, frames or given.window_frames
        kind = Kind.MULTI_VIEW if F == 1 else Kind.VIDEO if V == 1 else Kind.GRID
        self.traits = Traits(
            given.name, kind, given.cell, model.latent_shape(), schedule,
            views=V, frames=F, wants_text=False, wants_reference=True,
        )  # fmt: skip

    def encode(self, rendered: Rendered, draws: Draws) -> Tensor:
        """See `Guidance`; the render is shown over white, with its opacity where the model has alpha."""
        del draws
        self._check(*rendered.color.shape[1:3])
        cells = [rendered.on_white()]
        if self.model.traits.channels == 4:
            cells.append(rendered.opacity)
        shown = resized(torch.cat(cells, dim=3), self.traits.size) * 2 - 1
        if not isinstance(self.model, VideoGridModel):
            return shown
        codec = self.model.model.codec(self.chunk)
        dtype = next(codec.frame_encoder.parameters()).dtype
        flat = shown.flatten(0, 2).to(dtype)
        parts: list[Any] = []
        for part in flat.split(self.chunk):
            parts.append(checkpoint(codec.frame_encoder, part, use_reentrant=False))
        return torch.cat(parts).to(shown.dtype).unflatten(0, shown.shape[:3]) * codec.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """See `Guidance`."""
        scenes = [composite(self.model.decode(scene.float())) for scene in latents]
        return torch.stack(scenes).to(latents)

    @torch.no_grad()
    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        cameras: Sequence[Cameras],
        prompt: ClipPrompt,
        *,
        unconditional: bool = True,
    ) -> NoisePrediction:
        """See `Guidance`. The unconditional branch does not know the clip."""
        self._check(*noisy.shape[1:3])
        pairs = [self.model.conditions(self._request(prompt, scene)) for scene in cameras]
        sides: list[Conditioning] = [stack_conditions([pair[0] for pair in pairs])]
        empty = [pair[1] for pair in pairs if pair[1] is not None]
        if unconditional and len(empty) == len(pairs):
            sides.append(stack_conditions(empty))
        a = self.traits.schedule.at(timesteps[:, 0, 0])
        found = [self._noise(noisy, a, side) for side in sides]
        return NoisePrediction(found[0], found[-1])

    def _noise(self, noisy: Tensor, alpha_bar: Tensor, cond: Conditioning) -> Tensor:
        """The noise in `noisy` [B, V, F, C, h, w], from the clean value that the denoiser sees."""
        given = torch.zeros_like(noisy[:, :1])
        x = torch.cat([given, noisy], dim=1) if self.model.traits.inside else noisy
        scale, sigma = as_sigma(self.model.denoiser, alpha_bar)
        clean = self.model.denoiser(x * per_entry(scale, x).to(x.dtype), sigma, cond).to(noisy.dtype)
        a = per_entry(alpha_bar, noisy).to(noisy.dtype)
        return (noisy - a.sqrt() * clean[:, -noisy.shape[1] :]) / (1 - a).sqrt()

    def _request(self, prompt: ClipPrompt, cameras: Cameras) -> Request:
        """What the model is asked: the input view is row 0 of the grid, this scene's cameras are the rows below."""
        V, F = self.traits.views, self.traits.frames
        rows = tuple(range(0 if self.model.traits.inside else 1, V + 1))
        cells = [(0, frame) for frame in range(F)]
        if self.model.traits.needs_reference:
            if prompt.references is None or len(prompt.references) != V:
                raise UserError(f"{self.traits.name} needs {V} reference views of the first frame; make them with SV3D")
            cells += [(view, 0) for view in range(1, V + 1)]
        direction = Direction("", tuple(range(F)), tuple(cells))
        window = Window(0, "distill", rows, direction.frames, frozenset(), (direction,))
        parts = {name: _stacked(prompt.camera, cameras, name) for name in ("elevation", "azimuth", "distance")}
        whole = Cameras(**parts, fov_y=cameras.fov_y)

        def read(wanted: Sequence[Cell]) -> Tensor:
            found = [prompt.frames[f] if v == 0 else _reference(prompt, v) for v, f in wanted]
            return torch.stack(found) if found else prompt.frames[:0]

        return Request(window, direction, whole, read)

    def _check(self, views: int, frames: int) -> None:
        wanted = (self.traits.views, self.traits.frames)
        if (views, frames) != wanted:
            raise UserError(
                f"{self.traits.name} is set to {wanted[0]} views × {wanted[1]} frames; the batch has {views} × {frames}"
            )


def as_sigma(denoiser: Denoiser, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """(factor on the noisy value, sigma or time) of a denoiser's own noise at a [B], float32 [B] each."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    total = signal if denoiser.schedule_kind == "edm" else signal + noise
    return (1 / total).float(), (noise / total).float()


def _stacked(first: Cameras, rest: Cameras, name: str) -> Tensor:
    return torch.cat([getattr(first, name)[:, : rest.shape[1]], getattr(rest, name)])


def _reference(prompt: ClipPrompt, view: int) -> Tensor:
    references: Any = prompt.references
    return references[view - 1]
