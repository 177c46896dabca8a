"""Checkpoints: the last K and every N kept, refused when the config changed; and weights for inference."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from viewtime.configs.schema.train import CheckpointSection, TrainConfig
from viewtime.errors import UserError, first_line
from viewtime.json_files import read_json
from viewtime.log import log
from viewtime.run_folder import plain
from viewtime.train.distributed import readers
from viewtime.train.objective.losses import stage_loss
from viewtime.train.objective.student import student_defaults
from viewtime.train.prepare import merge_lora
from viewtime.train.registry import network_of
from viewtime.train.schedule import Progress

from .ema import PowerEma
from .engine import load_engine
from .parts import Trained
from .same_config import check_config
from .shards import master_part, whole

Schema = TypeVar("Schema")
RECORD = "run.json"
SHARDS = "shards"  # the folder of our own format; DeepSpeed has another, see `viewtime.train.state.engine`
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    SafetensorError,
    pickle.UnpicklingError,
    CheckpointException,
)  # whatever a pickle of which some bytes are others may raise


@dataclass(frozen=True)
class CheckpointRecord:
    """The JSON of a checkpoint; a folder without it is no checkpoint."""

    progress: Progress
    world: int
    config: dict[str, Any]
    scaler: dict[str, Any] | None = None
    readers: int | None = None
    """Of the data; as many as processes where these do not share grids."""


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    found = (path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.name))
    return sorted(path for path in found if (path / RECORD).is_file())


def prune(folder: Path, section: CheckpointSection) -> None:
    """Delete all but the last K and those at multiples of N steps; and what a killed save left."""
    found = checkpoints(folder)
    for path in found[: -section.keep_last or None]:
        step = int(path.name.removeprefix("step_"))
        if section.keep_every == 0 or step % section.keep_every:
            os.replace(path, path.with_name(f".{path.name}.partial"))  # at once no checkpoint, however far it gets
    for path in folder.glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(
    path: Path, accelerator: Any, trained: Trained, config: TrainConfig, group: Any
) -> tuple[Progress, dict | None]:
    """Restore everything; returns the counters and this process's stream position.

    Another number of processes than wrote it reads it too; there is no position then, and the counters say that the
    data start anew.

    Args:
        group: see `viewtime.train.state.saving.Saver`.

    Raises:
        UserError: another config, or it is damaged.
    """
    record = _read(path, RECORD, CheckpointRecord)
    if not config.allow_config_change:
        check_config(record.config, plain(config), path)
    with damage_told(path):
        if (path / SHARDS).is_dir():
            trained.load(path / SHARDS, group)
            if accelerator.scaler is not None and record.scaler:
                accelerator.scaler.load_state_dict(record.scaler)
        else:
            load_engine(path, accelerator, trained, record.world)
    (reader, now), before = readers(accelerator, config), record.readers or record.world
    if before != now:
        record.progress.data_starts += 1
        log.warning(
            "%s was written by %d processes, this run has %d (those that share grids count once): the data start anew "
            "in another order, and a step has %.3g times as many grids (optimizer.accumulate, stages.N.batch_size)",
            path, before, now, now / before,
        )  # fmt: skip
        return record.progress, None
    return record.progress, _read(path, f"stream_{reader}.json", dict)


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """What reading a damaged checkpoint raises, as one line with the way out."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{path} is damaged ({damage(error)}); {_way_out(path)}") from error


def damage(error: BaseException) -> str:
    """The first line of what is wrong; of a process's own error where torch tells of several processes."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    told = first_line(error)
    return f"no {told}" if isinstance(error, KeyError) else told


def _read(path: Path, name: str, schema: type[Schema]) -> Schema:
    try:
        return read_json(path / name, schema)
    except UserError as error:
        raise UserError(f"{error}; {_way_out(path)}") from error


def _way_out(path: Path) -> str:
    first = checkpoints(path.parent)[:1] == [path]
    return f"delete {path} to {'begin anew' if first else 'resume from the one before'}"


def gathered_weights(module: nn.Module, ema: PowerEma, length: float | None, config: TrainConfig,
                     keep: bool) -> dict[str, torch.Tensor]:  # fmt: skip
    """The network for inference in host memory, averaged weights if `length` is given; empty without `keep`.

    Called by every process, as sharded parameters are gathered one by one; the tensors are copies.
    """
    network = network_of(module)
    averages = ema.of(length) if length is not None else {}
    inside = next(name for name, child in module.named_modules() if child is network)
    prefix = f"{inside}." if inside else ""
    tensors = {}
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        part = averages[prefix + name] if prefix + name in averages else master_part(parameter).detach()
        full = whole(parameter, part)
        if keep:
            tensors[name] = full.detach().to("cpu", torch.float32, copy=True)
    if not keep:
        return {}
    tensors |= {k: v.detach().cpu().clone() for k, v in network.state_dict().items() if k not in parameters}
    if config.model.lora is not None:
        tensors = merge_lora(tensors, config.model.lora)
    outer = getattr(module, "export_prefix", "")
    return {f"{outer}{name}": tensor for name, tensor in tensors.items()}


def weight_record(module: nn.Module, config: TrainConfig, length: float | None, progress: Progress) -> dict[str, Any]:
    """Metadata of exported weights: the model by name with its complete config, and how it was and wants to be used.

    A denoiser may describe itself (`exported_model`); otherwise its network's `config` does.
    """
    shape = getattr(network_of(module), "config", None)
    described = plain(shape) if shape is not None else config.model.config
    model = getattr(module, "exported_model", None) or {"name": config.model.name, "config": described}
    training = {"steps": progress.step, "samples": progress.samples, "seconds": round(progress.seconds), "ema": length}
    noise = stage_loss(config, config.stages[-1]).frame_noise
    return {"model": plain(model), "training": training, "trained": {"frame_noise": noise, **student_defaults(config)}}
