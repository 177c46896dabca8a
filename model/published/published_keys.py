"""Names of a whole model's tensors: ours and those of the published single files, in both directions."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from viewtime.model.conditioners.image_encoder import ImageEncoder
from viewtime.model.sv4d.keys import published_names
from viewtime.model.sv4d.unet import VideoUNet
from viewtime.model.vae.decoder import Decoder
from viewtime.model.vae.encoder import Encoder, FrameEncoder
from viewtime.model.vae.keys import published_name

from .video_config import Part, VideoModelConfig

Shape = tuple[int, ...]
VIEW_ENCODER_PLACE = 4
UNUSED_ENCODER_PLACE = 5
CLIP_PREFIX = "conditioner.embedders.0.open_clip.model."
NETWORK_PREFIX = "model.diffusion_model."
DECODER_PREFIX = "first_stage_model.decoder."

UNUSED = tuple(
    re.compile(pattern)
    for pattern in (
        r"conditioner\.embedders\.0\.open_clip\.model\.(?!visual\.)",
        r"conditioner\.embedders\.[134]\.encoder\.(decoder|post_quant_conv|loss)\.",
        r"conditioner\.embedders\.5\.",
        r"first_stage_model\.(encoder|quant_conv|post_quant_conv|loss)\.",
        r"model_ema\.",
        r"denoiser\.",
    )
)
"""Tensors that published files may hold and no computation reads."""


def build_part(part: Part, config: VideoModelConfig) -> nn.Module:
    """One part of the model, with random weights (on the meta device where the caller says so)."""
    if part == "network":
        return VideoUNet(config.network)
    if part == "image_encoder":
        return ImageEncoder(config.image_encoder)
    if part == "decoder":
        return Decoder(config.vae)
    return FrameEncoder(config.vae)


def part_prefix(part: Part, config: VideoModelConfig) -> str:
    """What stands before a part's names in a published file."""
    return {
        "network": NETWORK_PREFIX,
        "image_encoder": CLIP_PREFIX,
        "frame_encoder": f"conditioner.embedders.{config.frame_encoder_place}.encoder.",
        "view_encoder": f"conditioner.embedders.{VIEW_ENCODER_PLACE}.encoder.",
        "decoder": DECODER_PREFIX,
    }[part]


@cache
def part_names(part: Part, config: VideoModelConfig) -> dict[str, tuple[str, Shape]]:
    """Our name within a part -> (published name, shape)."""
    with torch.device("meta"):
        tensors = build_part(part, config).state_dict()
    prefix = part_prefix(part, config)
    if part == "network":
        names = published_names(list(tensors), config.network)
    else:
        names = {name: published_name(name) for name in tensors}
    return {name: (prefix + names[name], tuple(tensor.shape)) for name, tensor in tensors.items()}


@cache
def used_names(config: VideoModelConfig) -> dict[str, tuple[str, Shape]]:
    """Our full name (`network.conv_in.weight`) -> (published name, shape) of every tensor the model uses."""
    return {
        f"{part}.{name}": published for part in config.parts for name, published in part_names(part, config).items()
    }


def is_unused(published: str) -> bool:
    """Whether a published file may hold this tensor although nothing reads it."""
    return any(pattern.match(published) for pattern in UNUSED)


def published_manifest(config: VideoModelConfig) -> dict[str, Shape]:
    """Every tensor that the published code builds, used or not: published name -> shape."""
    manifest = dict(used_names(config).values())
    clip = config.image_encoder
    left_over = {
        "positional_embedding": (77, clip.text_width),
        "text_projection": (clip.text_width, clip.out_dim),
        "logit_scale": (),
        "token_embedding.weight": (clip.vocabulary, clip.text_width),
        "ln_final.weight": (clip.text_width,),
        "ln_final.bias": (clip.text_width,),
    }
    manifest |= {CLIP_PREFIX + name: shape for name, shape in left_over.items()}
    places = [config.frame_encoder_place]
    if config.family == "sv4d":
        places += [VIEW_ENCODER_PLACE, UNUSED_ENCODER_PLACE]
    autoencoder = _autoencoder_shapes(config)
    for place in places:
        manifest |= {f"conditioner.embedders.{place}.encoder.{name}": shape for name, shape in autoencoder.items()}
    if config.family == "svd":
        with torch.device("meta"):
            encoder = Encoder(config.vae).state_dict()
        manifest |= {f"first_stage_model.encoder.{name}": tuple(tensor.shape) for name, tensor in encoder.items()}
    return manifest


def _autoencoder_shapes(config: VideoModelConfig) -> dict[str, Shape]:
    """The whole image autoencoder that each published embedder holds."""
    vae = replace(config.vae, temporal_decoder=False)
    with torch.device("meta"):
        whole = nn.ModuleDict({"decoder": Decoder(vae), "post_quant_conv": nn.Conv2d(4, 4, 1)})
        shapes = {name: tuple(tensor.shape) for name, tensor in FrameEncoder(vae).state_dict().items()}
    return shapes | {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}
