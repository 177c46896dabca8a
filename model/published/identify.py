"""What model a weight file holds, from its header alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from viewtime.errors import UserError
from viewtime.json_files import read_json
from viewtime.weight_header import WeightFile, open_weights

from .presets import build_model_config, load_model_config, model_presets
from .video_config import VideoModelConfig

Format = Literal["stability", "diffusers", "viewtime"]
VECTOR_WEIGHT = "model.diffusion_model.label_emb.0.0.weight"
CONVOLUTION_WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"
ATTENTION = "model.diffusion_model.input_blocks.1.1."
CONFIG_NAME = "model"


@dataclass(frozen=True)
class Identified:
    """A weight file's format and model."""

    format: Format
    config: VideoModelConfig
    file: WeightFile | None
    """Header; None for a diffusers folder, which holds several files."""


def file_config(config: VideoModelConfig) -> dict[str, Any]:
    """What viewtime writes into a weight file's metadata, so that `identify` finds the model again."""
    return {CONFIG_NAME: asdict(config)}


def identify(path: str | Path, preset: str | None = None) -> Identified:
    """Find format and model.

    Args:
        path: a .safetensors file, an index of shards, or a diffusers folder.
        preset: what the model is to be; needed only where a header fits several. Published SV4D 2.0 files of 4 and
            of 8 views have the same tensors; without a preset the file's name decides ("8views" in it).

    Raises:
        UserError: the file is not whole, holds another model than `preset`, or none that is known.
    """
    path = Path(path)
    if path.is_dir() and (path / "model_index.json").is_file():
        return Identified("diffusers", _diffusers_config(path, preset), None)
    opened = open_weights(path)
    if isinstance(opened.config.get(CONFIG_NAME), dict) and "network" in opened.config[CONFIG_NAME]:
        config = build_model_config(opened.config[CONFIG_NAME], f"{path}: {CONFIG_NAME}")
        _check_preset(path, config.name, preset, (config.name,))
        return Identified("viewtime", config, opened)
    if VECTOR_WEIGHT not in opened.entries or CONVOLUTION_WEIGHT not in opened.entries:
        first = ", ".join(list(opened.entries)[:2]) or "nothing"
        raise UserError(
            f"{path} holds none of SVD, SV3D, SV4D (no {VECTOR_WEIGHT}; it holds {first}, …); "
            "give one of their published files"
        )
    return Identified("stability", _published_config(path, opened, preset), opened)


class Signature(NamedTuple):
    """What of a published header tells the models apart."""

    channels: int
    vector_dim: int
    has_frame_attention: bool
    separate_blend: bool


def _published_config(path: Path, opened: WeightFile, preset: str | None) -> VideoModelConfig:
    entries = opened.entries
    signature = Signature(
        channels=entries[CONVOLUTION_WEIGHT].shape[0],
        vector_dim=entries[VECTOR_WEIGHT].shape[-1],
        has_frame_attention=any(key.startswith(f"{ATTENTION}motion_blocks.") for key in entries),
        separate_blend=f"{ATTENTION}time_mixer_motion.mix_factor" in entries,
    )
    known = {name: load_model_config(name) for name in model_presets()}
    names = [name for name, config in known.items() if _signature(config) == signature]
    if preset is not None and _signature(load_model_config(preset)) == signature:
        return load_model_config(preset)
    if not names:
        raise UserError(
            f"{path} is no known model of the family: {signature.channels} channels, "
            f"vector conditioning {signature.vector_dim} wide; give a YAML preset that describes it"
        )
    names.sort(key=lambda name: ("8views" in name) != ("8views" in path.name))
    _check_preset(path, names[0], preset, tuple(names))
    return known[names[0]]


def _signature(config: VideoModelConfig) -> Signature:
    network = config.network
    sv4d = network.axes == "view-frame"
    return Signature(network.channels, network.vector_dim, sv4d, sv4d and network.separate_blend)


def _diffusers_config(path: Path, preset: str | None) -> VideoModelConfig:
    name = read_json(path / "model_index.json", dict[str, Any]).get("_class_name")
    if name != "StableVideoDiffusionPipeline":
        raise UserError(f"{path} is a diffusers folder of {name}; only StableVideoDiffusionPipeline can be read")
    if preset is not None and load_model_config(preset).family != "svd":
        raise UserError(f"{path} holds svd-xt, not {preset}; use the preset svd-xt, or give a file of {preset}")
    return load_model_config(preset or "svd-xt")


def _check_preset(path: Path, found: str, preset: str | None, allowed: tuple[str, ...]) -> None:
    if preset is not None and preset not in allowed:
        raise UserError(f"{path} holds {found}, not {preset}; use the preset {found}, or give a file of {preset}")
