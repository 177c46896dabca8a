"""Models by name: what a training config and a weight file's metadata name, and the denoiser that it builds."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from viewtime.configs.load import build, suggest
from viewtime.errors import UserError
from viewtime.model.denoiser import SCALINGS, NetworkDenoiser


@dataclass(frozen=True)
class ModelEntry:
    """Where a network and its config dataclass lie ("module:name"), and how its output becomes the clean value."""

    config: str
    network: str
    scaling: str


MODELS = {
    "mini": ModelEntry(
        "viewtime.model.mini.config:MiniConfig", "viewtime.model.mini.network:MiniNetwork", "flow-clean"
    ),
    "mini-words": ModelEntry(
        "viewtime.model.mini.words:WordsConfig", "viewtime.model.mini.words:WordsNetwork", "flow-clean"
    ),
    "4real-base": ModelEntry(
        "viewtime.model.four_real.config:BaseConfig", "viewtime.model.four_real.base:BaseVideoModel", "flow"
    ),
    "4real": ModelEntry(
        "viewtime.model.four_real.config:GridConfig", "viewtime.model.four_real.grid:GridModel", "flow"
    ),
    "4real-upsampler": ModelEntry(
        "viewtime.model.four_real.config:UpsamplerConfig", "viewtime.model.four_real.upsampler:Upsampler", "flow-clean"
    ),
}


def model_entry(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        UserError: no model of that name.
    """
    if name not in MODELS:
        raise UserError(f"no model {name!r}{suggest(name, list(MODELS))}; models: {', '.join(MODELS)}")
    return MODELS[name]


def config_schema(name: str) -> type:
    """The config dataclass of a model, by name as in `model_entry`."""
    return _load(model_entry(name).config)


def build_network(name: str, config: dict[str, Any]) -> nn.Module:
    """The network of a model with random weights; `config` overrides the defaults of its config dataclass."""
    return _load(model_entry(name).network)(build(config_schema(name), config, where=f"{name} model config"))


def build_denoiser(name: str, config: dict[str, Any], in_channels: int | None = None) -> NetworkDenoiser:
    """The network inside its scaling; `in_channels` defaults to the config's `channels`."""
    network = build_network(name, config)
    channels = in_channels if in_channels is not None else network.config.channels
    return NetworkDenoiser(network, SCALINGS[model_entry(name).scaling](), int(channels))  # type: ignore[arg-type]


def resolved_config(network: nn.Module) -> dict[str, Any]:
    """The complete config of a built network, as it goes into a weight file's metadata."""
    return asdict(network.config)  # type: ignore[call-overload]


def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
