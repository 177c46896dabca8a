"""All that a run trains, tensor by tensor under one name each, as torch.distributed.checkpoint stores it.

What is sharded goes in as a DTensor, what every process holds whole as a plain tensor: what one number of processes
wrote another can read.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as sharded
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.tensor import DTensor

from .ema import PowerEma
from .shards import as_sharded

warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True)
class Trained:
    """Label -> model (without the strategy's wrapper) and its optimiser, if any; and the averages of the first one."""

    models: dict[str, nn.Module]
    optimizers: dict[str, Any]
    ema: PowerEma

    def tensors(self) -> dict[str, Tensor]:
        """Name -> the tensor itself, no copy: "LABEL/NAME", "LABEL.optimizer/NAME/KEY", "ema/LENGTH/NAME"."""
        found = self._models_and_averages()
        for label, optimizer in self.optimizers.items():
            names = {parameter: name for name, parameter in self.models[label].named_parameters()}
            for parameter, entries in optimizer.state.items():
                found |= {f"{label}.optimizer/{names[parameter]}/{key}": value for key, value in entries.items()}
        return found

    def _models_and_averages(self) -> dict[str, Tensor]:
        found = {f"{label}/{k}": v for label, model in self.models.items() for k, v in model.state_dict().items()}
        parameters = dict(next(iter(self.models.values())).named_parameters())
        for key, part in self.ema.state_dict().items():
            found[f"ema/{key}"] = as_sharded(parameters[key.partition("/")[2]], part)
        return found

    def load(self, folder: Path, group: Any) -> None:
        """Read what `write` wrote; every process calls it.

        Args:
            group: of the processes, on which the CPU can talk; None: there is one process.

        Raises:
            RuntimeError, KeyError, OSError: a tensor is not there, or has another shape.
        """
        reader = sharded.FileSystemReader(folder)
        target = self._models_and_averages()
        stored = reader.read_metadata().state_dict_metadata
        states = {label: self._states(label, stored) for label in self.optimizers}
        for label, of_model in states.items():
            target |= {f"{label}.optimizer/{n}/{k}": v for n, entries in of_model.items() for k, v in entries.items()}
        sharded.load(target, storage_reader=reader, process_group=group, no_dist=group is None)
        for label, of_model in states.items():
            optimizer, model = self.optimizers[label], self.models[label]
            names = {parameter: name for name, parameter in model.named_parameters()}
            ordered = [names[p] for settings in optimizer.param_groups for p in settings["params"]]
            filled = {index: of_model[name] for index, name in enumerate(ordered) if name in of_model}
            optimizer.load_state_dict({"state": filled, "param_groups": optimizer.state_dict()["param_groups"]})

    def _states(self, label: str, stored: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
        """Parameter name -> key -> a tensor to read its optimiser's state into."""
        parameters = dict(self.models[label].named_parameters())
        found: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for path, kind in stored.items():
            owner, _, rest = path.partition("/")
            if owner != f"{label}.optimizer":
                continue
            name, _, key = rest.rpartition("/")
            assert isinstance(kind, TensorStorageMetadata)
            like = parameters[name]
            of_shape = kind.size == like.shape and like.dim() > 0
            empty = torch.zeros_like if of_shape else lambda _, dtype, size=kind.size: torch.zeros(size, dtype=dtype)
            found[name][key] = empty(like.detach(), dtype=kind.properties.dtype)
        return found


def own_share(tensors: dict[str, Tensor], rank: int, world: int) -> dict[str, Tensor]:
    """What this process writes: its shards, and every so many of the tensors that all hold whole."""
    ordered = sorted(tensors)
    return {
        name: tensors[name]
        for number, name in enumerate(ordered)
        if isinstance(tensors[name], DTensor) or number % world == rank
    }


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in host memory, which training does not change any more."""
    return DefaultStager(StagingOptions(False, False, False, False)).stage(tensors)  # type: ignore[return-value]


def write(tensors: dict[str, Tensor], folder: Path, group: Any) -> None:
    """Write each process's share into one folder; on the first process it returns when all have written.

    Raises:
        Exception: what kept one of the processes from writing, as it was raised there: a full disk, for one.
    """
    writer = sharded.FileSystemWriter(folder)
    try:
        sharded.save(tensors, storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:
        for failure, _ in error.failures.values():
            raise failure from error
        raise
