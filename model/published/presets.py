"""Presets of the published models: the `model` section of their YAML."""

from __future__ import annotations

from viewtime.configs.load import build, load_preset, presets
from viewtime.errors import UserError

from .video_config import VideoModelConfig


def load_model_config(name_or_path: str) -> VideoModelConfig:
    """The model of a preset by name, or of a YAML file.

    Raises:
        UserError: no such preset, it describes no model of this family, or its parts disagree.
    """
    mapping = load_preset(name_or_path, "model")
    model = mapping.get("model")
    if not isinstance(model, dict) or "network" not in model or "vector" not in model:
        known = ", ".join(model_presets())
        raise UserError(f"{name_or_path} has no SVD, SV3D or SV4D model; presets that have: {known}")
    return build_model_config(model, f"{name_or_path}: model")


def build_model_config(mapping: dict, where: str) -> VideoModelConfig:
    """A checked config from a mapping. Raises UserError as `load_model_config`."""
    config = build(VideoModelConfig, mapping, where)
    if config.vector_dim != config.network.vector_dim:
        raise UserError(
            f"{where}.vector has {config.vector_dim} entries in all; network.vector_dim is {config.network.vector_dim}"
        )
    if len(config.network.attention_levels) != len(config.network.multipliers):
        raise UserError(f"{where}.network: attention_levels and multipliers must have the same length")
    return config


def model_presets() -> list[str]:
    """Presets that describe a model of this family."""
    return presets("model")
