"""DeepSpeed's own checkpoints: written by its engine, read by as many processes, or by another number through its
universal format, into which the pieces of each parameter and moment are put together first."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from viewtime.log import log

from .parts import Trained
from .shards import full_numel

ACCELERATE = "accelerate"  # the folder that accelerate has the engines write
UNIVERSAL = "universal"


def is_sharded(accelerator: Any) -> bool:
    """Whether each process holds only a part of the parameters (ZeRO-3, FSDP)."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    zero3 = plugin is not None and plugin.zero_stage == 3
    return zero3 or str(accelerator.distributed_type).endswith("FSDP")


def save_engine(folder: Path, accelerator: Any, trained: Trained) -> None:
    """The engines' shards, and the averages beside them. A collective call."""
    accelerator.save_state(str(folder / ACCELERATE))
    rank, shards = accelerator.process_index, is_sharded(accelerator)
    if trained.ema.lengths and (shards or accelerator.is_main_process):
        state = {key: value.contiguous() for key, value in trained.ema.state_dict().items()}
        save_file(state, folder / f"ema_{rank if shards else 0}.safetensors")


def load_engine(folder: Path, accelerator: Any, trained: Trained, world: int) -> None:
    """Read what `save_engine` of `world` processes wrote. A collective call."""
    rank = accelerator.process_index
    if world == accelerator.num_processes:
        accelerator.load_state(str(folder / ACCELERATE))
        if trained.ema.lengths:
            trained.ema.load_state_dict(load_file(folder / f"ema_{rank if is_sharded(accelerator) else 0}.safetensors"))
        return
    _load_universal(folder, accelerator)
    if not trained.ema.lengths:
        return
    if not is_sharded(accelerator):
        trained.ema.load_state_dict(load_file(folder / "ema_0.safetensors"))
        return
    pieces = [load_file(folder / f"ema_{number}.safetensors") for number in range(world)]
    numels = {name: full_numel(parameter) for name, parameter in trained.models["model"].named_parameters()}
    trained.ema.load_state_dict({
        key: recut([piece[key] for piece in pieces], numels[key.partition("/")[2]], rank, accelerator.num_processes)
        for key in pieces[0]
    })  # fmt: skip


def recut(pieces: list[Tensor], numel: int, rank: int, world: int) -> Tensor:
    """Piece `rank` of `world` of a parameter that ZeRO-3 had in other flat, padded pieces."""
    size = math.ceil(numel / world)
    flat = torch.cat([piece.flatten() for piece in pieces])[:numel]
    return functional.pad(flat, (0, size * world - numel))[size * rank : size * (rank + 1)]


def _load_universal(folder: Path, accelerator: Any) -> None:
    """Each engine's shards through DeepSpeed's universal format, which is there while they are read."""
    from deepspeed.checkpoint import ds_to_universal

    for engine, written in zip(accelerator._models, sorted((folder / ACCELERATE).glob("pytorch_model*")), strict=True):
        whole = folder / UNIVERSAL / written.name
        if accelerator.is_main_process:
            log.info("putting DeepSpeed's shards together for another number of processes")
            shutil.rmtree(whole, ignore_errors=True)
            with contextlib.redirect_stdout(sys.stderr):
                ds_to_universal.main(Namespace(
                    input_folder=str(written), output_folder=str(whole), num_extract_workers=1, num_merge_workers=1,
                    keep_temp_folder=False, strict=True, inject_missing_state=True,
                ))  # fmt: skip
        accelerator.wait_for_everyone()
        engine._config.load_universal_checkpoint = True
        try:
            with _settings_kept(engine.optimizer.optimizer):
                engine.load_checkpoint(str(folder / UNIVERSAL), written.name)
        finally:
            engine._config.load_universal_checkpoint = False
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder / UNIVERSAL)


@contextlib.contextmanager
def _settings_kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What DeepSpeed's reader of universal checkpoints gets wrong, put right.

    Under ZeRO-3 it gives all parameter groups the settings of the first, and all parts of the state one counter of
    steps, which each of them then moves on.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    yield
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].clone()
