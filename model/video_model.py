"""A whole published model: network, conditioner and VAE, loaded strictly from any of its file formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from viewtime.errors import UserError
from viewtime.model.attention import Backend
from viewtime.model.conditioners.conditioner import Conditioner
from viewtime.model.denoiser import SCALINGS, NetworkDenoiser
from viewtime.model.precision import Dtypes
from viewtime.model.published.diffusers_files import load_diffusers_parts
from viewtime.model.published.identify import identify
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.published_keys import build_part, is_unused, used_names
from viewtime.model.published.video_config import PARTS, Part, VideoModelConfig
from viewtime.model.published.weight_sources import UNUSED_PREFIX
from viewtime.model.sv4d.unet import VideoUNet
from viewtime.model.vae.codec import FrameCodec
from viewtime.weights import TargetDtype, load_weights


class VideoModel(nn.Module):
    """The parts of one model as attributes named as in `Part`; `denoiser`, `conditioner`, `codec` put them to use."""

    def __init__(
        self,
        config: VideoModelConfig,
        parts: Sequence[Part] | None = None,
        attention: Backend = "sdpa",
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.config = config
        for part in parts or config.parts:
            if part == "network":
                self.network = VideoUNet(config.network, attention, gradient_checkpointing)
            else:
                self.add_module(part, build_part(part, config))

    def denoiser(self) -> NetworkDenoiser:
        """The network behind the denoiser call; the noisy latents are the encoder's times `config.vae.scale`."""
        return NetworkDenoiser(self.network, SCALINGS[self.config.prediction](), self.config.network.out_channels)

    def conditioner(self, chunk: int = 8) -> Conditioner:
        """See `Conditioner`."""
        part = self._part
        view_encoder = part("view_encoder") if self.config.family == "sv4d" else None
        return Conditioner(self.config, part("image_encoder"), part("frame_encoder"), view_encoder, chunk)  # type: ignore[arg-type]

    def codec(self, chunk: int = 14) -> FrameCodec:
        """See `FrameCodec`."""
        return FrameCodec(self.config.vae, self._part("frame_encoder"), self._part("decoder"), chunk)  # type: ignore[arg-type]

    def _part(self, name: Part) -> nn.Module:
        if name not in self._modules:
            raise UserError(f"the model was loaded without its part {name}; add it to `parts`")
        return cast(nn.Module, self._modules[name])


def load_video_model(
    path: str | Path,
    preset: str | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Dtypes | None = None,
    parts: Sequence[Part] | None = None,
    view_attention: Literal["pixel", "raster", "joint"] | None = None,
    attention: Backend = "sdpa",
    gradient_checkpointing: bool = False,
) -> VideoModel:
    """Load a Stability file, a diffusers folder or a viewtime file.

    Args:
        preset: what the model must be; see `identify`.
        dtype: of all parts, or of each by its name; None keeps what the file holds.
        parts: load only these; all by default.
        view_attention: overrides how SV4D 2.0 attends over views. By default a published file computes what the
            published code computes, and a viewtime file what its metadata says.

    Raises:
        UserError: the file is not whole or does not fit; names the tensors.
    """
    found = identify(path, preset)
    config = as_published(found.config) if found.format == "stability" else found.config
    if view_attention is not None:
        config = replace(config, network=replace(config.network, view_attention=view_attention))
    chosen = tuple(parts or config.parts)

    def build() -> VideoModel:
        return VideoModel(config, chosen, attention, gradient_checkpointing)

    target: TargetDtype = dtype if not isinstance(dtype, dict) else lambda name: dtype[name.partition(".")[0]]
    if found.format == "diffusers":
        return cast(VideoModel, load_diffusers_parts(build, config, Path(path), chosen, device, target))
    key_map = published_key_map(config, chosen) if found.format == "stability" else _own_key_map(chosen)
    return cast(VideoModel, load_weights(build, path, device, target, key_map))


def training_denoiser(
    preset: str,
    weights: str | None = None,
    attention: Backend = "sdpa",
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> NetworkDenoiser:
    """The denoiser of a preset for training: `model.name: viewtime.model.video_model:training_denoiser` in a config.

    Args:
        preset: a preset of this family or a YAML file; its way of attending over views counts, whatever the file.
        weights: file of any format whose network is loaded; None starts from random values.
        seed: of the random values.

    Raises:
        UserError: no such preset, or weights that do not fit it.
    """
    config = load_model_config(preset)
    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VideoModel(config, ("network",), attention, gradient_checkpointing).denoiser()
    model = load_video_model(
        weights,
        preset if identify(weights).format != "viewtime" else None,
        parts=("network",),
        dtype=torch.float32,
        view_attention=config.network.view_attention,
        attention=attention,
        gradient_checkpointing=gradient_checkpointing,
    )
    if model.config.network != config.network:
        raise UserError(f"{weights} holds {model.config.name}, whose network is not that of {preset}")
    return model.denoiser()


def as_published(config: VideoModelConfig) -> VideoModelConfig:
    """What the published code computes with the same weights: the paper's joint attention becomes `raster`."""
    if config.network.view_attention != "joint":
        return config
    return replace(config, network=replace(config.network, view_attention="raster"))


def published_key_map(config: VideoModelConfig, parts: Sequence[Part]) -> Callable[[str], str | None]:
    """Published name -> our name; None for other parts and tensors nothing reads; unknown names stay as they are."""
    table = {published: ours for ours, (published, _) in used_names(config).items()}

    def rename(key: str) -> str | None:
        ours = table.get(key)
        if ours is not None:
            return ours if ours.partition(".")[0] in parts else None
        return None if is_unused(key) else key

    return rename


def _own_key_map(parts: Sequence[Part]) -> Callable[[str], str | None]:
    def rename(key: str) -> str | None:
        part = key.partition(".")[0]
        return None if key.startswith(UNUSED_PREFIX) or (part in PARTS and part not in parts) else key

    return rename
