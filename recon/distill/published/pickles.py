"""Pickled checkpoints (.ckpt, .pt, .bin), opened only as tensors: torch's restricted reader and a list of names."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.weights import save_weights

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
NAMED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


class Inert:
    """Stands where a trainer left an object of its own; keeps nothing and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state


LIGHTNING = ("pytorch_lightning.callbacks", "lightning.pytorch.callbacks", "lightning_fabric.utilities.data")
LEFT_OVERS = (
    *(f"{module}.{name}" for module in LIGHTNING[:2] for name in ("ModelCheckpoint", "LearningRateMonitor")),
    *(f"{module}.model_checkpoint.ModelCheckpoint" for module in LIGHTNING[:2]),
    f"{LIGHTNING[2]}.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Objects of the training program that published files carry beside their tensors; each becomes an `Inert`."""


def read_pickle(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, mapped from disk where its format allows; nothing in it can run.

    A `state_dict` inside is taken out of what surrounds it.

    Raises:
        UserError: no such file, no checkpoint, or it names code beyond the list.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such weight file: {path}")
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in LEFT_OVERS]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = NAMED_GLOBAL.search(str(error))
        what = f"names {found.group(1)}, which could run code" if found else "holds more than tensors"
        raise UserError(
            f"{path} is a pickle that {what}; it was not opened: take the .safetensors form of these weights"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no checkpoint of torch, or is cut off: {error}; download it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)} if isinstance(content, dict) else {}
    )
    if not tensors:
        raise UserError(f"{path} holds no tensors by name; a checkpoint with a state dict is needed")
    return tensors


def convert_pickle(path: Path, out: Path) -> Path:
    """Write a checkpoint's tensors under their own names, in their own formats, to a safetensors file.

    Raises:
        UserError: as `read_pickle`, or `out` is no name of such a file.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: tensors go to one file; give a name that ends in .safetensors")
    return save_weights(out, read_pickle(path), {})
