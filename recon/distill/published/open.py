"""A published guidance from local paths, ready to be called."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from viewtime.errors import UserError
from viewtime.model.conditioners.vision_transformer import VisionTransformer

from ..guidance.base import Guidance, Kind, NoiseSchedule
from ..guidance.codec import Autoencoder, Codec, Pixels
from ..guidance.diffusion import TextGuidance
from ..guidance.lora_copy import LoraCopy
from ..guidance.multi_view import MultiViewGuidance
from ..guidance.zero123 import Zero123Guidance
from ..losses.vsd import Prediction
from ..noise import scaled_linear_schedule
from .architectures import STABLE_DIFFUSION_2, ZERO123
from .catalogue import CATALOGUE, Published
from .community import folder_image_tower, folder_projection, mvdream_unet, zero123_unet
from .files import open_published
from .folders import NETWORKS, folder_part, folder_schedule
from .ldm_files import build_unet, ldm_autoencoder, ldm_image_tower, ldm_pose_projection, ldm_unet
from .lora_files import add_lora_file

Device = torch.device | str


@dataclass(frozen=True)
class GuidanceOptions:
    """What may be chosen of a guidance; none of it but `size` and `frames_with_gradient` changes results.

    Attributes:
        size: (height, width) in pixels that it sees; None: its own.
        chunk, recompute, frames_with_gradient: see `Autoencoder`.
        split: see `NetworkGuidance`.
        vae: a diffusers folder or single file with another autoencoder.
        lora: a DreamBooth LoRA of diffusers to add to the network, and its strength.
    """

    size: tuple[int, int] | None = None
    chunk: int = 1
    recompute: bool = True
    frames_with_gradient: int | None = None
    split: bool = False
    vae: str | None = None
    lora: str | None = None
    lora_scale: float = 1.0


@dataclass(frozen=True)
class NetworkParts:
    """What a guidance is made of; the last two are zero123's."""

    network: Any
    schedule: NoiseSchedule
    codec: Codec
    predicts: Prediction = "noise"
    image_encoder: VisionTransformer | None = None
    projection: nn.Module | None = None


def find(name: str, path: str | Path | None) -> tuple[Published, Path]:
    """The catalogue's entry, and the path if there is something.

    Raises:
        UserError: an unknown name, or nothing at the path; says where the weights come from.
    """
    if name not in CATALOGUE:
        raise UserError(f"no guidance is called {name!r}; one of {', '.join(CATALOGUE)}")
    published = CATALOGUE[name]
    form = "a diffusers folder" if published.form is None else "its single file or a diffusers folder"
    if path is None or not Path(os.path.expanduser(path)).exists():
        what = "no weights are given for" if path is None else f"there is nothing at {path} for"
        raise UserError(f"{what} {name}; download {published.source}, and give the path of {form}")
    return published, Path(os.path.expanduser(path))


def open_guidance(
    name: str,
    path: str | Path | None,
    device: Device,
    dtype: torch.dtype = torch.float32,
    options: GuidanceOptions | None = None,
) -> Guidance:
    """Load a published guidance, strictly; on the meta device everything is checked and nothing is read.

    Args:
        name: of `CATALOGUE`.
        path: single file (.safetensors, .ckpt, .pt) or diffusers folder; for MVDream and zero123, see `community`.
        dtype: of all its weights.

    Raises:
        UserError: no such name or path, another model's weights, a pickle with code in it.
    """
    published, path = find(name, path)
    options = options or GuidanceOptions()
    if not path.is_dir() and published.form is None:
        raise UserError(f"{path} is a file; {name} is read from a diffusers folder: {published.source}")
    read = _from_folder if path.is_dir() else _from_file
    parts = read(published, path, device, dtype, options)
    if options.lora is not None:
        add_lora_file(parts.network, options.lora, options.lora_scale)
    return assemble(name, parts, options)


def assemble(
    name: str,
    parts: NetworkParts,
    options: GuidanceOptions,
) -> Guidance:
    """The guidance of loaded parts."""
    published = CATALOGUE[name]
    common = (parts.network, parts.schedule, parts.codec, options.size or published.size)
    if published.form == "zero123":
        assert isinstance(parts.codec, Autoencoder)
        assert parts.image_encoder is not None
        assert parts.projection is not None
        return Zero123Guidance(
            name, parts.network, parts.schedule, parts.codec, options.size or published.size,
            image_encoder=parts.image_encoder, projection=parts.projection,
            stable=published.stable, split=options.split,
        )  # fmt: skip
    if published.form == "mvdream":
        return MultiViewGuidance(name, published.kind, *common, views=published.views, split=options.split)
    return TextGuidance(
        name, published.kind, *common, predicts=parts.predicts, frames=max(published.frames, 1), split=options.split
    )


def _from_folder(
    published: Published, path: Path, device: Device, dtype: torch.dtype, options: GuidanceOptions
) -> NetworkParts:
    tower, projection = None, None
    if published.form == "mvdream":
        network = mvdream_unet(path, published.views, device, dtype)
    elif published.form == "zero123":
        projection, network = folder_projection(path, device, dtype), zero123_unet(path, device, dtype)
        tower = folder_image_tower(path, device, dtype)
    else:
        network = folder_part(path / "unet", NETWORKS, device, dtype)
        _check_kind(path, network, published)
    schedule, predicts = folder_schedule(path)
    codec = _folder_codec(path, network, device, dtype, options)
    return NetworkParts(network, schedule, codec, predicts, tower, projection)


def _from_file(
    published: Published, path: Path, device: Device, dtype: torch.dtype, options: GuidanceOptions
) -> NetworkParts:
    file, is_zero123 = open_published(path), published.form == "zero123"
    projection = ldm_pose_projection(file, device, dtype) if is_zero123 else None
    network = build_unet(ZERO123 if is_zero123 else STABLE_DIFFUSION_2, published.views)
    network = ldm_unet(file, network, device, dtype)
    loaded = ldm_autoencoder(file, device, dtype) if options.vae is None else None
    return NetworkParts(
        network,
        scaled_linear_schedule(form="ldm"),
        _autoencoder(loaded, device, dtype, options),
        published.predicts,
        image_encoder=ldm_image_tower(file, device, dtype) if is_zero123 else None,
        projection=projection,
    )


def open_copy(
    path: str | Path | None, device: Device, dtype: torch.dtype = torch.float32, name: str = "sd-2.1"
) -> LoraCopy:
    """VSD's carrier: its network alone, with a fresh LoRA and camera embedding; raises like `open_guidance`."""
    published, path = find(name, path)
    if path.is_dir():
        network = folder_part(path / "unet", NETWORKS[:1], device, dtype)
        schedule, predicts = folder_schedule(path)
        return LoraCopy(network, schedule, predicts)
    network = ldm_unet(open_published(path), build_unet(STABLE_DIFFUSION_2), device, dtype)
    return LoraCopy(network, scaled_linear_schedule(form="ldm"), published.predicts)


def share_copy(guidance: TextGuidance) -> LoraCopy:
    """VSD's copy on the guidance's own network, which needs no second set of weights."""
    return LoraCopy(guidance.network, guidance.traits.schedule, guidance.predicts, shared=True)


def _check_kind(path: Path, network: Any, published: Published) -> None:
    """Raise UserError if a folder holds a network for videos where one for images is asked for, or the reverse."""
    is_video = type(network).__name__ == "UNet3DConditionModel"
    if is_video != (published.kind is Kind.VIDEO):
        held, wanted = ("videos", "images") if is_video else ("images", "videos")
        raise UserError(f"{path} holds a network for {held}; one for {wanted} is asked for")


def _folder_codec(path: Path, network: Any, device: Device, dtype: torch.dtype, options: GuidanceOptions) -> Codec:
    """The folder's autoencoder; a network of three channels works on pixels."""
    if network.config.in_channels == 3:
        return Pixels()
    if options.vae is None:
        return _autoencoder(folder_part(path / "vae", ("AutoencoderKL",), device, dtype), device, dtype, options)
    return _autoencoder(None, device, dtype, options)


def _autoencoder(loaded: Any, device: Device, dtype: torch.dtype, options: GuidanceOptions) -> Autoencoder:
    """The autoencoder that was loaded, or the one that the options name."""
    if loaded is None:
        place = Path(str(options.vae))
        if place.is_dir():
            inner = place / "vae" if (place / "vae").is_dir() else place
            loaded = folder_part(inner, ("AutoencoderKL",), device, dtype)
        else:
            loaded = ldm_autoencoder(open_published(place), device, dtype)
    return Autoencoder(
        loaded, chunk=options.chunk, recompute=options.recompute, frames_with_gradient=options.frames_with_gradient
    )
