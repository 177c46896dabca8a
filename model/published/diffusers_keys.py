"""Names of SVD's tensors in a diffusers folder (`StableVideoDiffusionPipeline`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.keys import BLOCK

from .published_keys import part_names
from .video_config import VideoModelConfig

Change = Literal["same", "transpose", "first third", "second third", "last third"]


class Piece(NamedTuple):
    """One tensor of a diffusers folder and where it comes from.

    change `same` keeps the bytes (the shape may gain or lose axes of size 1); `transpose` swaps the two axes; a third
    is one of query, key and value that OpenCLIP stacks.
    """

    folder: Literal["unet", "vae", "image_encoder"]
    key: str
    ours: str
    change: Change = "same"


CONVOLUTIONS = {
    "norm_in": "norm1",
    "conv_in": "conv1",
    "embed": "time_emb_proj",
    "norm_out": "norm2",
    "conv_out": "conv2",
    "skip": "conv_shortcut",
}
UNET_HEAD = {
    "noise_embed.expand": "time_embedding.linear_1",
    "noise_embed.contract": "time_embedding.linear_2",
    "vector_embed.expand": "add_embedding.linear_1",
    "vector_embed.contract": "add_embedding.linear_2",
    "conv_in": "conv_in",
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
}
CLIP_HEAD = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
CLIP_NORMS = {"ln_pre": "vision_model.pre_layrnorm", "ln_post": "vision_model.post_layernorm"}
CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
THIRDS: tuple[tuple[str, Change], ...] = (("q", "first third"), ("k", "second third"), ("v", "last third"))


def diffusers_pieces(config: VideoModelConfig) -> list[Piece]:
    """Every tensor of the diffusers folder of an SVD model."""
    pieces = []
    modules, levels = _unet_modules(config.network), len(config.vae.multipliers)
    for name in part_names("network", config):
        module, _, leaf = name.rpartition(".")
        leaf = "mix_factor" if leaf == "logit" else leaf
        pieces.append(Piece("unet", f"{modules[module]}.{leaf}", f"network.{name}"))
    for name in part_names("frame_encoder", config):
        pieces.append(Piece("vae", vae_name(name, levels, temporal=True), f"frame_encoder.{name}"))
    for name in part_names("decoder", config):
        pieces.append(Piece("vae", vae_name(f"decoder.{name}", levels, temporal=True), f"decoder.{name}"))
    for name in part_names("image_encoder", config):
        pieces.extend(clip_pieces(name))
    return pieces


def _unet_modules(config: UNetConfig) -> dict[str, str]:
    """Our module path -> diffusers' module path."""
    residual, attention = _residual(), _attention()
    table = dict(UNET_HEAD)

    def add(inner: dict[str, str], ours: str, theirs: str) -> None:
        table.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in inner.items()})

    place, levels = 0, len(config.multipliers)
    for level in range(levels):
        for block in range(config.residual_blocks):
            add(residual, f"encoder.{place}.residual", f"down_blocks.{level}.resnets.{block}")
            add(attention, f"encoder.{place}.attention", f"down_blocks.{level}.attentions.{block}")
            place += 1
        if level + 1 < levels:
            table[f"encoder.{place}.conv"] = f"down_blocks.{level}.downsamplers.0.conv"
            place += 1
    add(residual, "middle.residual_in", "mid_block.resnets.0")
    add(attention, "middle.attention", "mid_block.attentions.0")
    add(residual, "middle.residual_out", "mid_block.resnets.1")
    for place in range(levels * (config.residual_blocks + 1)):
        level, block = divmod(place, config.residual_blocks + 1)
        add(residual, f"decoder.{place}.residual", f"up_blocks.{level}.resnets.{block}")
        add(attention, f"decoder.{place}.attention", f"up_blocks.{level}.attentions.{block}")
        table[f"decoder.{place}.upsample.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return table


def _residual() -> dict[str, str]:
    table = {"blend": "time_mixer"}
    for ours, theirs in CONVOLUTIONS.items():
        table[f"space.{ours}"] = f"spatial_res_block.{theirs}"
        table[f"grid.{ours}"] = f"temporal_res_block.{theirs}"
    return table


def _attention() -> dict[str, str]:
    table = {"norm": "norm", "project_in": "proj_in", "project_out": "proj_out", "frame_blend": "time_mixer"}
    table |= {"frame_embed.expand": "time_pos_embed.linear_1", "frame_embed.contract": "time_pos_embed.linear_2"}
    for ours, theirs in BLOCK.items():
        table[f"space.{ours}"] = f"transformer_blocks.0.{theirs}"
        table[f"frame.{ours}"] = f"temporal_transformer_blocks.0.{theirs}"
    return table


def vae_name(name: str, levels: int, *, temporal: bool) -> str:
    """Published VAE name (`encoder.…`, `decoder.…`, `quant_conv.…`, `post_quant_conv.…`) -> diffusers'.

    Args:
        levels: resolutions of the VAE.
        temporal: the decoder is SVD's, with spatial and temporal halves of each block.
    """
    half, _, rest = name.partition(".")
    if half in ("quant_conv", "post_quant_conv"):
        return name
    for ours, theirs in (("conv_out.time_mix_conv.", "time_conv_out."), ("norm_out.", "conv_norm_out.")):
        if rest.startswith(ours):
            return f"{half}.{theirs}{rest.removeprefix(ours)}"
    parts, halves = rest.split("."), temporal and half == "decoder"
    if parts[0] == "mid":
        if parts[1] == "attn_1":
            inner = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
            return f"{half}.mid_block.attentions.0.{inner[parts[2]]}.{parts[3]}"
        block = {"block_1": 0, "block_2": 1}[parts[1]]
        return f"{half}.mid_block.resnets.{block}.{_vae_residual(parts[2:], halves)}"
    if parts[0] not in ("down", "up"):
        return name
    level = int(parts[1])
    if parts[0] == "up":  # diffusers counts upwards from the lowest resolution
        level = levels - 1 - level
    if parts[2] == "block":
        return f"{half}.{parts[0]}_blocks.{level}.resnets.{parts[3]}.{_vae_residual(parts[4:], halves)}"
    return f"{half}.{parts[0]}_blocks.{level}.{parts[0]}samplers.0.{'.'.join(parts[3:])}"


def _vae_residual(parts: list[str], halves: bool) -> str:
    if parts[0] == "mix_factor":
        return "time_mixer.mix_factor"
    if parts[0] == "temporal":
        return f"temporal_res_block.{CONVOLUTIONS[parts[1]]}.{parts[2]}"
    inner = ".".join(parts).replace("nin_shortcut", "conv_shortcut")
    return f"spatial_res_block.{inner}" if halves else inner


def clip_pieces(name: str) -> Iterator[Piece]:
    """The tensors of transformers' `CLIPVisionModelWithProjection` that make one of our image tower."""
    ours, bare = f"image_encoder.{name}", name.removeprefix("visual.")
    if bare == "proj":
        yield Piece("image_encoder", "visual_projection.weight", ours, "transpose")
    elif bare in CLIP_HEAD:
        yield Piece("image_encoder", CLIP_HEAD[bare], ours)
    elif bare.startswith("transformer.resblocks."):
        _, _, layer, module, *rest = bare.split(".")
        prefix = f"vision_model.encoder.layers.{layer}"
        if rest[0].startswith("in_proj_"):
            for letter, change in THIRDS:
                key = f"{prefix}.self_attn.{letter}_proj.{rest[0].removeprefix('in_proj_')}"
                yield Piece("image_encoder", key, ours, change)
        else:
            inner = ".".join([module, *rest[:-1]])
            yield Piece("image_encoder", f"{prefix}.{CLIP_LAYER[inner]}.{rest[-1]}", ours)
    else:
        module, _, leaf = bare.rpartition(".")
        yield Piece("image_encoder", f"{CLIP_NORMS[module]}.{leaf}", ours)
