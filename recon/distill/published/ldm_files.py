"""Single files of Stable Diffusion, MVDream and zero123 (LDM names) into diffusers' classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from viewtime.errors import UserError, require
from viewtime.model.conditioners.vision_transformer import VisionTransformer
from viewtime.model.four_real.text import build_text_tower
from viewtime.weight_header import check_keys

from ..guidance.multi_view import add_camera_embedding, join_views
from ..guidance.zero123 import pose_projection
from .architectures import AUTOENCODER, CLIP_IMAGE, OPEN_CLIP_TEXT
from .files import PublishedFile, fill
from .ldm_names import UNET_PREFIX, VAE_PREFIX, ema_name, unet_names, vae_names

TEXT_PREFIX = "cond_stage_model.model."
IMAGE_PREFIX = f"{TEXT_PREFIX}visual."
PROJECTION_PREFIX = "cc_projection."

SCHEDULE_TABLES = r"(model\.)?(betas|alphas_cumprod|sqrt_|log_one_minus|posterior_|lvlb_weights|logvar|scale_factor)"
"""Tables in the files that follow from the betas."""


def build_unet(config: Mapping[str, Any], views: int = 0) -> Any:
    """An empty `UNet2DConditionModel` on the meta device; with `views` above 0 it is MVDream's."""
    diffusers: Any = require("diffusers", "train")
    with torch.device("meta"):
        network = diffusers.UNet2DConditionModel(**config)
        if views:
            add_camera_embedding(network)
    if views:
        join_views(network, views)
    return network


def build_autoencoder() -> Any:
    """An empty `AutoencoderKL` of Stable Diffusion on the meta device."""
    diffusers: Any = require("diffusers", "train")
    with torch.device("meta"):
        return diffusers.AutoencoderKL(**AUTOENCODER)


def ldm_unet(file: PublishedFile, network: Any, device: torch.device | str, dtype: torch.dtype | None) -> Any:
    """Fill a network from a single file; from its moving average where the file has one.

    Raises:
        UserError: names missing, unexpected and mis-shaped tensors.
    """
    names = unet_names(network.config, network.state_dict())
    inside = {name.removeprefix(UNET_PREFIX) for name in file.shapes if name.startswith(UNET_PREFIX)}
    unexpected = {name: file.shapes[UNET_PREFIX + name] for name in sorted(inside - set(names))}
    missing = {name: () for name in names if name not in inside}
    check_keys(file.path, missing, unexpected)
    averaged = {ema_name(name): ours for name, ours in names.items()}
    if all(name in file.shapes for name in averaged):
        return fill(network, file, averaged, device, dtype)
    return fill(network, file, {UNET_PREFIX + name: ours for name, ours in names.items()}, device, dtype)


def ldm_autoencoder(file: PublishedFile, device: torch.device | str, dtype: torch.dtype | None) -> Any:
    """The autoencoder of a single file; raises UserError like `ldm_unet`."""
    autoencoder = build_autoencoder()
    inside = [name for name in file.shapes if name.startswith(VAE_PREFIX) and not name.startswith(f"{VAE_PREFIX}loss.")]
    if not inside:
        raise UserError(
            f"{file.path} holds no autoencoder ({VAE_PREFIX}…); give a folder or file with one "
            "(--guidances.NAME.vae PATH)"
        )
    names = vae_names((name.removeprefix(VAE_PREFIX) for name in inside), len(AUTOENCODER["block_out_channels"]))
    return fill(autoencoder, file, {VAE_PREFIX + name: ours for name, ours in names.items()}, device, dtype)


def ldm_text_tower(file: PublishedFile, device: torch.device | str, dtype: torch.dtype | None) -> nn.Module:
    """OpenCLIP's text tower of a single file without its last block, as Stable Diffusion 2 reads it.

    Raises:
        UserError: the file has none, or of another size.
    """
    with torch.device("meta"):
        tower = build_text_tower(OPEN_CLIP_TEXT)
    wanted = set(tower.state_dict())
    names = {TEXT_PREFIX + name: name for name in wanted if TEXT_PREFIX + name in file.shapes}
    if not names:
        raise UserError(f"{file.path} holds no text tower ({TEXT_PREFIX}…); give a folder or file with one")
    del tower.attn_mask
    filled = fill(tower, file, names, device, dtype)
    filled.register_buffer("attn_mask", _causal_mask(tower.context_length, device, dtype), persistent=False)
    return filled


def _causal_mask(length: int, device: torch.device | str, dtype: torch.dtype | None) -> torch.Tensor:
    return torch.full((length, length), -torch.inf, device=device, dtype=dtype or torch.float32).triu(1)


def ldm_image_tower(file: PublishedFile, device: torch.device | str, dtype: torch.dtype | None) -> VisionTransformer:
    """zero123's CLIP image tower; raises UserError like `ldm_unet`."""
    with torch.device("meta"):
        tower = VisionTransformer(CLIP_IMAGE)
    names = {name: name.removeprefix(IMAGE_PREFIX) for name in file.shapes if name.startswith(IMAGE_PREFIX)}
    fill(tower, file, names, device, dtype)
    return tower


def ldm_pose_projection(file: PublishedFile, device: torch.device | str, dtype: torch.dtype | None) -> nn.Module:
    """zero123's `cc_projection`.

    Raises:
        UserError: the file is no zero123 checkpoint.
    """
    weight = f"{PROJECTION_PREFIX}weight"
    if weight not in file.shapes:
        raise UserError(f"{file.path} is no zero123 checkpoint: it has no {weight}")
    with torch.device("meta"):
        layer = pose_projection(file.shapes[weight][0])
    return fill(layer, file, {PROJECTION_PREFIX + name: name for name in ("weight", "bias")}, device, dtype)
