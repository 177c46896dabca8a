"""Names of the original latent-diffusion networks (LDM) to those of diffusers' classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from viewtime.model.published.diffusers_keys import vae_name

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
EMA_PREFIX = "model_ema."
HEAD = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "camera_embed.0",
    "class_embedding.linear_2": "camera_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_places(block_out_channels: Iterable[int], layers_per_block: int, attention: Iterable[bool]) -> dict[str, str]:
    """diffusers' block -> LDM's block of a `UNet2DConditionModel`.

    Args:
        attention: whether each level attends, from the highest resolution down.
    """
    attends, levels = list(attention), len(list(block_out_channels))
    places = {
        f"mid_block.{kind}": f"middle_block.{n}"
        for kind, n in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2))
    }
    number = 1
    for level in range(levels):
        for layer in range(layers_per_block):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{number}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{number}.1"
            number += 1
        if level + 1 < levels:
            places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    for number in range(levels * (layers_per_block + 1)):
        level, layer = divmod(number, layers_per_block + 1)
        places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{number}.0"
        places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{number}.1"
        if layer == layers_per_block and level + 1 < levels:
            behind = 2 if attends[levels - 1 - level] else 1
            places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{number}.{behind}.conv"
    return places


def unet_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """LDM's name (without prefix) -> diffusers' name, for the tensors `names` of a `UNet2DConditionModel`.

    Args:
        config: of the network: block_out_channels, layers_per_block, down_block_types.
    """
    attention = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    places = unet_places(config["block_out_channels"], config["layers_per_block"], attention)
    table = {}
    for name in names:
        module, _, leaf = name.rpartition(".")
        table[f"{_ldm_module(module, places)}.{leaf}"] = name
    return table


def _ldm_module(module: str, places: Mapping[str, str]) -> str:
    if module in HEAD:
        return HEAD[module]
    if module in places:
        return places[module]
    parts = module.split(".")
    depth = 3 if parts[0] == "mid_block" else 4
    place, inner = places[".".join(parts[:depth])], ".".join(parts[depth:])
    return f"{place}.{RESIDUAL.get(inner, inner)}"


def ema_name(name: str) -> str:
    """Where the moving average of an LDM tensor `name` (without prefix) lies in the file."""
    return f"{EMA_PREFIX}diffusion_model{name.replace('.', '')}"


def vae_names(names: Iterable[str], levels: int) -> dict[str, str]:
    """LDM's VAE name (without prefix) -> diffusers' `AutoencoderKL`, for LDM names."""
    return {name: vae_name(name, levels, temporal=False) for name in names}
