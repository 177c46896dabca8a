"""diffusers folders: networks of the classes that their config files name, filled strictly; the noise schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from viewtime import json_files
from viewtime.errors import UserError, require

from ..guidance.base import NoiseSchedule
from ..losses.vsd import Prediction
from ..noise import cosine_schedule, scaled_linear_schedule
from .files import PublishedFile, fill, open_published

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
NETWORKS = ("UNet2DConditionModel", "UNet3DConditionModel")


def read_json(path: Path) -> dict[str, Any]:
    """A config file; raises UserError where it is missing or broken."""
    try:
        return json_files.read_json(path, dict)
    except UserError as error:
        raise UserError(f"{error}; give a whole diffusers folder") from error


def weights_in(
    folder: Path, stem: str = "diffusion_pytorch_model", variants: tuple[str, ...] = ("", ".fp16")
) -> PublishedFile:
    """The weights of one part: safetensors, whole or in shards, else a pickle; of each, the first variant.

    Raises:
        UserError: there are none, or they cannot be opened.
    """
    for ending in (".safetensors", ".safetensors.index.json", ".bin"):
        for variant in variants:
            name = f"{stem}.safetensors.index{variant}.json" if "index" in ending else f"{stem}{variant}{ending}"
            if (folder / name).is_file():
                return open_published(folder / name)
    raise UserError(f"{folder} has no {stem}.safetensors; download the part again")


def folder_part(
    folder: Path,
    classes: tuple[str, ...],
    device: torch.device | str,
    dtype: torch.dtype | None,
    variants: tuple[str, ...] = ("", ".fp16"),
) -> Any:
    """A network or autoencoder of a diffusers folder.

    Args:
        folder: of the part, with its `config.json`.
        classes: names of diffusers' classes that fit here.
        variants: see `weights_in`.

    Raises:
        UserError: another class, or tensors that do not fit.
    """
    config = read_json(folder / "config.json")
    name = config.get("_class_name", "")
    if name not in classes:
        raise UserError(f"{folder} holds {name or 'something without a class name'}; {' or '.join(classes)} is needed")
    diffusers: Any = require("diffusers", "train")
    with torch.device("meta"):
        module = getattr(diffusers, name).from_config(config)
    file = weights_in(folder, variants=variants)
    return fill(module, file, {theirs: current_name(theirs) for theirs in file.shapes}, device, dtype)


def current_name(name: str) -> str:
    """Names of an autoencoder's attention in folders of diffusers before 0.17 -> today's."""
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in OLD_ATTENTION:
        parts[-2] = OLD_ATTENTION[parts[-2]]
    return ".".join(parts)


def folder_schedule(folder: Path) -> tuple[NoiseSchedule, Prediction]:
    """The noise that a folder's network was trained with, and what it predicts.

    Raises:
        UserError: a schedule that no guidance here was trained with.
    """
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    predicts: Prediction = "velocity" if config.get("prediction_type") == "v_prediction" else "noise"
    kind, bounds = config.get("beta_schedule"), (config.get("beta_start"), config.get("beta_end"))
    if kind == "scaled_linear" and bounds == (0.00085, 0.012):
        return scaled_linear_schedule(ends_at_one=bool(config.get("set_alpha_to_one", True))), predicts
    if kind == "squaredcos_cap_v2":
        return cosine_schedule(), predicts
    raise UserError(
        f"{folder} was trained with {kind} betas of {bounds[0]} to {bounds[1]}; "
        "scaled_linear of 0.00085 to 0.012 and squaredcos_cap_v2 are known"
    )
