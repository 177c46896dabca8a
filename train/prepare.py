"""The model as it is trained: starting weights, adapters, activation checkpointing, memory format, compilation."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from viewtime.configs.schema.train import LoraSection, ModelSection
from viewtime.errors import UserError, require
from viewtime.model.memory_layout import channels_last
from viewtime.train.registry import build_model, network_of


def prepare_model(section: ModelSection) -> nn.Module:
    """The denoiser with everything applied that its section asks for, on the CPU."""
    denoiser = build_model(section)
    network = network_of(denoiser)
    if section.lora is not None:
        add_lora(network, section.lora)
    if section.activation_checkpointing:
        checkpoint_blocks(network)
    if section.channels_last:
        channels_last(network)
    if section.compile:
        network.compile(dynamic=False)  # a stage has one shape; a graph for any shape is slower
    return denoiser


def add_lora(network: nn.Module, section: LoraSection) -> None:
    """Put peft's low-rank adapters into the network and freeze the rest.

    Raises:
        UserError: peft is missing, or no layer's name matches.
    """
    peft = require("peft", "train")
    config = peft.LoraConfig(
        r=section.rank, lora_alpha=section.alpha, lora_dropout=section.dropout, target_modules=section.target_modules
    )
    try:
        peft.inject_adapter_in_model(config, network)
    except ValueError as error:
        raise UserError(f"model.lora.target_modules {section.target_modules!r} fits no layer: {error}") from error
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_lora(state: dict[str, torch.Tensor], section: LoraSection) -> dict[str, torch.Tensor]:
    """A state dict with adapters -> one with the network's own names, W + (alpha / rank) B A.

    Inference needs no peft, and the file fits the network's builder.
    """
    scale = section.alpha / section.rank
    merged = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        if ".base_layer." in name:
            stem, _, leaf = name.rpartition(".base_layer.")
            down, up = state.get(f"{stem}.lora_A.default.weight"), state.get(f"{stem}.lora_B.default.weight")
            if leaf == "weight" and down is not None and up is not None:
                tensor = tensor + scale * (up.flatten(1) @ down.flatten(1)).view_as(tensor)
            name = f"{stem}.{leaf}"
        merged[name] = tensor
    return merged


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The direct members of the network's module lists; lists inside such a block are left alone."""
    blocks: list[nn.Module] = []
    covered: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(covered or ("\0",)):
            blocks += list(module)
            covered = (*covered, f"{name}.")
    return blocks


def checkpoint_blocks(network: nn.Module) -> int:
    """Recompute the activations of every repeated block in the backward pass; returns how many blocks.

    Raises:
        UserError: the network has no module list.
    """
    blocks = repeated_blocks(network)
    if not blocks:
        raise UserError("model.activation_checkpointing: this network has no list of blocks")
    for block in blocks:
        block.forward = functools.partial(_recomputed, block.forward)
    return len(blocks)


def name_shards(denoiser: nn.Module) -> None:
    """Tell FSDP which modules to gather one at a time: the repeated blocks (its wrap by transformer class)."""
    names = {type(block).__name__ for block in repeated_blocks(network_of(denoiser))}
    denoiser._no_split_modules = sorted(names)  # type: ignore[assignment]


def autocast_inside(denoiser: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Autocast within the denoiser, for strategies that hold its weights in `dtype` and bring no autocast.

    Casting the inputs instead would round noise levels, and azimuths by up to a degree.
    """
    denoiser.forward = torch.autocast(device.type, dtype)(denoiser.forward)


def _recomputed(forward: Any, *arguments: Any, **keywords: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **keywords)
    return checkpoint(forward, *arguments, use_reentrant=False, **keywords)
