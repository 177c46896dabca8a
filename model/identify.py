"""What model a weight file holds, from its header alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from viewtime.configs.model import build_model_config, load_model_config
from viewtime.errors import UserError
from viewtime.model.video_config import VideoModelConfig
from viewtime.weights import WeightFile, open_weights

Format = Literal["stability", "diffusers", "viewtime"]
VECTOR_WEIGHT = "model.diffusion_model.label_emb.0.0.weight"
ATTENTION = "model.diffusion_model.input_blocks.1.1."
BY_VECTOR_WIDTH = {256: "sv3d-u", 1280: "sv3d-p", 768: "svd-xt"}
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
    if VECTOR_WEIGHT not in opened.entries:
        first = ", ".join(list(opened.entries)[:2]) or "nothing"
        raise UserError(
            f"{path} holds none of SVD, SV3D, SV4D (no {VECTOR_WEIGHT}; it holds {first}, …); "
            "give one of their published files"
        )
    return Identified("stability", _published_config(path, opened, preset), opened)


def _published_config(path: Path, opened: WeightFile, preset: str | None) -> VideoModelConfig:
    width = opened.entries[VECTOR_WEIGHT].info.shape[-1]
    if any(key.startswith(f"{ATTENTION}motion_blocks.") for key in opened.entries):
        if f"{ATTENTION}time_mixer_motion.mix_factor" not in opened.entries:
            names = ("sv4d",)
        else:
            names = ("sv4d2-8views", "sv4d2") if "8views" in path.name else ("sv4d2", "sv4d2-8views")
    elif width in BY_VECTOR_WIDTH:
        names = (BY_VECTOR_WIDTH[width],)
    else:
        raise UserError(
            f"{path} has a vector conditioning {width} wide; known widths: {', '.join(map(str, BY_VECTOR_WIDTH))}"
        )
    _check_preset(path, names[0], preset, names)
    return load_model_config(preset or names[0])


def _diffusers_config(path: Path, preset: str | None) -> VideoModelConfig:
    try:
        name = json.loads((path / "model_index.json").read_text())["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'model_index.json'} is not a pipeline's index: {error}") from error
    if name != "StableVideoDiffusionPipeline":
        raise UserError(f"{path} is a diffusers folder of {name}; only StableVideoDiffusionPipeline can be read")
    _check_preset(path, "svd-xt", preset, ("svd-xt",))
    return load_model_config("svd-xt")


def _check_preset(path: Path, found: str, preset: str | None, allowed: tuple[str, ...]) -> None:
    if preset is not None and preset not in allowed:
        raise UserError(f"{path} holds {found}, not {preset}; use the preset {found}, or give a file of {preset}")
