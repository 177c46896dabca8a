"""From samples to the batch that training sees: x0 in the model's range and the conditions of the denoiser call.

Every tensor keeps the grid order [B, V, F, ...]; only this module and `model/`, `sample/` know the range [−1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.data.samples import CorruptSampleError, GridSample
from viewtime.data.solids import in_frustum
from viewtime.errors import UserError

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class TrainingBatch:
    """A batch in the model's terms.

    Attributes:
        x0: [B, V, F, C, H, W]; pixels in [−1, 1] or latents.
        cond: `known` bool [B, V, F]; `known_frames` [B, V, F, C, H, W], clean at known cells and zero elsewhere;
            `elevation`, `azimuth` [B, V, F] degrees, azimuth from the input view; `distance` [B, V, F];
            `fov_y` [B] degrees; `fps` [B]; `clip` [B, V, F, D] at known cells and zero elsewhere, where the
            samples carry it; `solid` [B, F, D, D, D], how full each cell of the input view's frustum is, D half the
            pictures' width, where all samples carry it.
        ids: one name a sample.
        sources: the stream of each sample.
        captions: of each sample, "" where there is none.
    """

    x0: Tensor
    cond: dict[str, Tensor]
    ids: list[str]
    sources: list[str]
    captions: list[str]

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The batch on a device; copies overlap with computation when the memory is pinned."""
        cond = {name: value.to(device, non_blocking=True) for name, value in self.cond.items()}
        return replace(self, x0=self.x0.to(device, non_blocking=True), cond=cond)

    def pin_memory(self) -> TrainingBatch:
        """Called by the data loader."""
        pinned = {name: value.pin_memory() for name, value in self.cond.items()}
        return replace(self, x0=self.x0.pin_memory(), cond=pinned)


def pixels_for_model(frames: Tensor, channels: int, background: Sequence[float] | Tensor = WHITE) -> Tensor:
    """uint8 [V, F, 3 or 4, H, W], straight alpha -> float [V, F, C, H, W] in [−1, 1].

    RGB is composited on `background` ([3] in [0, 1]) by alpha; with 4 channels alpha follows as the fourth. Frames
    without alpha count as opaque.

    Raises:
        UserError: `channels` is neither 3 nor 4.
    """
    if channels not in (3, 4):
        raise UserError(f"a pixel model has 3 or 4 channels; got {channels}")
    values = frames.float() / 255
    alpha = values[:, :, 3:4] if frames.shape[2] == 4 else torch.ones_like(values[:, :, :1])
    colour = torch.as_tensor(background, dtype=torch.float32)[:, None, None]
    rgb = values[:, :, :3] * alpha + colour * (1 - alpha)
    return torch.cat([rgb, alpha], dim=2)[:, :, :channels] * 2 - 1


@dataclass(frozen=True)
class PreparedSample:
    """One sample in the model's terms; `TrainingBatch` without its batch axis, made in the loader's workers."""

    x0: Tensor
    known: Tensor
    cameras: Cameras
    fps: float
    clip: Tensor | None
    solid: Tensor | None
    id: str
    source: str
    caption: str


def prepare(sample: GridSample, channels: int, background: Sequence[float] | Tensor = WHITE) -> PreparedSample:
    """Pixels or latents in the model's range.

    Args:
        channels: of the model: 3 (RGB) or 4 (RGBA) for pixels; ignored for latents.

    Raises:
        CorruptSampleError: no known cells were drawn, or the sample has neither pixels nor latents.
    """
    if sample.known is None:
        raise CorruptSampleError(f"sample {sample.id}: its known cells were not drawn")
    if sample.latents is not None:
        x0 = sample.latents.float()
    elif sample.frames is not None:
        x0 = pixels_for_model(sample.frames, channels, background)
    else:
        raise CorruptSampleError(f"sample {sample.id} has neither pixels nor latents")
    clip = None if sample.clip is None else sample.clip.float()
    solid = None if sample.solid is None else in_frustum(sample.solid, sample.cameras, x0.shape[-1] // 2)
    return PreparedSample(
        x0, sample.known, sample.cameras, sample.fps, clip, solid, sample.id, sample.source, sample.caption
    )


def collate(samples: Sequence[PreparedSample]) -> TrainingBatch:
    """Stack samples of one size.

    Raises:
        UserError: the samples differ in size; names the two.
    """
    first = samples[0]
    for other in samples[1:]:
        if other.x0.shape != first.x0.shape or (other.clip is None) != (first.clip is None):
            raise UserError(
                f"a batch mixes sizes: {first.id} {tuple(first.x0.shape)}, {other.id} {tuple(other.x0.shape)}; "
                "set data.options.resolution and data.options.width and use sources of one kind (pixels or latents)"
            )
    x0 = torch.stack([sample.x0 for sample in samples])
    known = torch.stack([sample.known for sample in samples])
    cond = {
        "known": known,
        "known_frames": x0 * known[..., None, None, None],
        "elevation": torch.stack([sample.cameras.elevation for sample in samples]),
        "azimuth": torch.stack([sample.cameras.azimuth for sample in samples]),
        "distance": torch.stack([sample.cameras.distance for sample in samples]),
        "fov_y": torch.tensor([sample.cameras.fov_y for sample in samples]),
        "fps": torch.tensor([sample.fps for sample in samples]),
    }
    embeddings = [sample.clip for sample in samples if sample.clip is not None]
    if embeddings:
        cond["clip"] = torch.stack(embeddings) * known[..., None]
    solids = [sample.solid for sample in samples if sample.solid is not None]
    if len(solids) == len(samples):
        cond["solid"] = torch.stack(solids)
    ids, sources = [sample.id for sample in samples], [sample.source for sample in samples]
    return TrainingBatch(x0, cond, ids, sources, [sample.caption for sample in samples])
