"""SV3D, SV4D and SV4D 2.0 behind the runner: latents; input frames and reference views condition from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.conditioners.conditioner import Conditioner, EncodedFrames, unconditional
from viewtime.model.denoiser import Conditioning
from viewtime.model.eight_bits import state_to_save
from viewtime.model.memory_layout import channels_last
from viewtime.model.precision import Dtypes
from viewtime.model.published.identify import file_config
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.video_model import VideoModel, load_video_model
from viewtime.weights import read_header, save_weights

from .grid_model import ModelTraits, Request, SamplerDefaults

SV3D_STEP = 360.0 / 21
SV4D_ORBIT = (2, 5, 7, 9, 12, 14, 16, 19)  # which of SV3D's views SV4D makes
GRID_MULTIPLE = 64  # pixels; the VAE divides by 8 and the network by 8


def published_traits(config: VideoModelConfig) -> ModelTraits:
    """How the published scripts sample a model (they override their own YAML files).

    Raises:
        UserError: the model makes no grid.
    """
    common = {"name": config.name, "size": config.image_size, "channels": 3}
    if config.family == "svd":
        raise UserError(f"{config.name} makes a video out of one image, not a grid of views; give SV3D or SV4D weights")
    if config.family == "sv3d":
        return ModelTraits(
            **common, window_views=config.views, window_frames=1, input_last=True, elevation=10.0, object_share=0.9,
            azimuths=tuple(360.0 / config.views * view for view in range(1, config.views)),
            sampler=SamplerDefaults("euler", 50, "triangle", 1.0, 2.5),
        )  # fmt: skip
    window: dict[str, Any] = {"window_views": config.views, "window_frames": config.frames, "inside": False}
    if config.polar == "absolute":
        return ModelTraits(
            **common, **window, plan="sv4d", elevation=10.0, object_share=0.917,
            needs_reference=config.network.frame_context == "views",
            azimuths=tuple(SV3D_STEP * view for view in SV4D_ORBIT),
            sampler=SamplerDefaults("euler", 20, "spatio-temporal", 1.0, 2.0),
        )  # fmt: skip
    eight = config.views == 8
    return ModelTraits(
        **common, **window, plan="sv4d2", elevation=0.0, object_share=0.9,
        azimuths=(30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0) if eight else (60.0, 120.0, 180.0, 240.0),
        sampler=SamplerDefaults("euler", 50, *(("spatio-temporal", 1.5, 2.5) if eight else ("linear", 1.0, 2.0))),
    )  # fmt: skip


class VideoGridModel:
    """See `GridModel`.

    Args:
        model: all parts of a published model.
        chunk: frames encoded and decoded at a time.
        offload: keep each part on the CPU while others work.
        trained: how a model of our own was trained to be sampled; keys of `SamplerDefaults`.
    """

    def __init__(
        self,
        model: VideoModel,
        device: torch.device,
        chunk: int = 8,
        offload: bool = False,
        trained: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.chunk, self.offload, self.trained = model, chunk, offload, trained or {}
        published = published_traits(model.config)
        self.traits = replace(published, sampler=published.sampler.of_file(self.trained))
        self._device = device
        self._encoded: tuple[Callable, EncodedFrames] | None = None
        self._denoiser = model.denoiser()
        self.schedule_kind, self.in_channels = self._denoiser.schedule_kind, self._denoiser.in_channels

    @property
    def denoiser(self) -> VideoGridModel:
        """The model itself, since a call may have to bring the network to the device first."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the parts compute."""
        return self._device

    def __call__(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser call."""
        self._use("network")
        return self._denoiser(x, sigma, cond)

    def _use(self, *parts: str) -> None:
        """With offloading: these parts on the device, all others on the CPU."""
        if not self.offload:
            return
        for name, part in self.model.named_children():
            part.to(self._device if name in parts else torch.device("cpu"))

    def resize(self, size: int) -> None:
        """Make cells of another size; the networks take any multiple of 64 pixels but were trained at one size."""
        if size % GRID_MULTIPLE or size < GRID_MULTIPLE:
            raise UserError(f"--size {size}; {self.traits.name} takes multiples of {GRID_MULTIPLE} pixels")
        self.traits = replace(self.traits, size=size)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> VideoGridModel:
        """Move the weights."""
        if device is not None:
            self._device = torch.device(device)
        self.model.to(device=None if self.offload else self._device, dtype=dtype)
        return self

    def save(self, folder: Path) -> Path:
        """One safetensors file in viewtime's own format."""
        record = file_config(self.model.config) | ({"trained": self.trained} if self.trained else {})
        return save_weights(folder / f"{self.traits.name}.safetensors", state_to_save(self.model), record)

    def latent_shape(self) -> tuple[int, int, int]:
        """(4, size / 8, size / 8)."""
        side = self.traits.size // self.model.codec().downscale
        return (self.in_channels, side, side)

    def clean(self, request: Request) -> None:
        """No cell of the rectangle is known: conditions lie beside it."""
        del request

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning]:
        """Embeddings of input frames, cameras and reference views."""
        self._use("image_encoder", "frame_encoder", "view_encoder")
        conditioner = self.model.conditioner(self.chunk)
        cameras, views = request.cameras, torch.tensor(request.views)
        columns = torch.tensor(request.frames)
        elevation = cameras.elevation[views][:, columns][None].to(self._device)
        azimuth = cameras.azimuth[views][:, columns][None].to(self._device)
        input_elevation = cameras.elevation[:1, columns].to(self._device)
        input_azimuth = cameras.azimuth[:1, columns].to(self._device)
        with torch.no_grad():
            if self.model.config.family == "sv3d":
                image = self._pixels(request, [(0, request.frames[0])])[0][None]
                relative = torch.remainder(azimuth[..., 0] - input_azimuth[..., 0], 360.0)
                cond = conditioner.sv3d(image, elevation[..., 0], relative)
            else:
                frames = self._frames(request, conditioner)
                references = [cell for cell in request.direction.conditions if cell[0] != 0]
                pixels = None
                if references:
                    reference_frame = references[0][1]
                    pixels = self._pixels(request, [(view, reference_frame) for view in request.views])[None]
                cond = conditioner.sv4d(frames, elevation, azimuth, input_elevation, input_azimuth, pixels)
        return cond, unconditional(self.model.config, cond)

    def _frames(self, request: Request, conditioner: Conditioner) -> EncodedFrames:
        """The window's input frames in the direction's order; encoded once for both directions."""
        columns = request.window.frames
        if self._encoded is None or self._encoded[0] is not request.read:
            pixels = self._pixels(request, [(0, frame) for frame in columns])[None]
            self._encoded = (request.read, conditioner.encode(pixels))
        return self._encoded[1].in_order([columns.index(frame) for frame in request.frames])

    def _pixels(self, request: Request, cells: list[tuple[int, int]]) -> Tensor:
        """Cells [N, 3, S, S] in [-1, 1] on the device."""
        return request.read(cells).to(self._device) * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, 4, h, w] -> RGB [V, F, 3, H, W] in [0, 1] on the CPU."""
        self._use("decoder")
        codec = self.model.codec(self.chunk)
        dtype = next(self.model.get_submodule("decoder").parameters()).dtype
        return ((codec.decode(latents[None].to(dtype) / codec.scale)[0].float() + 1) / 2).clamp(0, 1).cpu()


def load_video_grid_model(
    path: Path, expected: str | None, device: torch.device, dtypes: Dtypes, chunk: int, offload: bool
) -> VideoGridModel:
    """Any published file, diffusers folder or viewtime file of the family.

    Raises:
        UserError: not such a file, another model, or a model that makes no grid.
    """
    place = torch.device("cpu") if offload else device
    model = load_video_model(path, expected, device=place, dtype=dtypes)
    model.eval().requires_grad_(False)
    channels_last(model.network)
    trained = read_header(path)[0].get("trained") if path.is_file() else None
    return VideoGridModel(model, device, chunk, offload, trained)
