"""A published weight file of any form as names, shapes and tensors, and how it fills a network strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.weight_header import check_keys, open_weights
from viewtime.weights import read_tensors

from .pickles import PICKLED, read_pickle

Shape = tuple[int, ...]


@dataclass(frozen=True)
class PublishedFile:
    """Tensors of one file, read when they are wanted.

    Attributes:
        shapes: name -> shape of everything in it.
        read: chosen names -> (name, tensor) in the order of the disk.
    """

    path: Path
    shapes: Mapping[str, Shape]
    read: Callable[[Iterable[str]], Iterator[tuple[str, Tensor]]]

    def tensors(self, names: Iterable[str], device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of chosen names; nothing is read for the meta device, so a file is checked in a moment."""
        if torch.device(device).type == "meta":
            return ((name, torch.empty(self.shapes[name], device="meta")) for name in names)
        return self.read(names)


def open_published(path: str | Path) -> PublishedFile:
    """Header of a .safetensors file or index, or of a pickled checkpoint.

    Raises:
        UserError: no such file, not whole, or a pickle with code in it.
    """
    path = Path(path)
    if path.suffix in PICKLED:
        tensors = read_pickle(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return PublishedFile(path, shapes, lambda names: ((name, tensors[name]) for name in names))
    opened = open_weights(path)
    shapes = {name: entry.shape for name, entry in opened.entries.items()}
    return PublishedFile(path, shapes, lambda names: read_tensors(opened, names))


def fill(
    module: nn.Module,
    file: PublishedFile,
    names: Mapping[str, str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Give a module on the meta device its tensors, strictly, and freeze it.

    Args:
        names: name in the file -> name in the module; names in the file that are not here are not read.
        dtype: floating tensors become this; None keeps what the file holds.

    Raises:
        UserError: names missing and mis-shaped tensors. 1 × 1 convolutions are taken for linear layers.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {ours: as_linear(file.shapes[theirs], wanted.get(ours)) for theirs, ours in names.items()}
    check_keys(file.path, wanted, found)
    loaded = {}
    for theirs, tensor in file.tensors(names, device):
        ours = names[theirs]
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        loaded[ours] = tensor.reshape(wanted[ours]).to(device=device, dtype=kind)
    module.load_state_dict(loaded, strict=True, assign=True)
    left = [name for name, tensor in module.named_buffers() if tensor.is_meta]
    assert not left, f"buffers outside the state dict cannot be loaded: {left}"
    return module.eval().requires_grad_(False)


def as_linear(shape: Shape, wanted: Shape | None) -> Shape:
    """A 1 × 1 convolution's shape as the linear layer's that is wanted; any other shape stays."""
    return shape[:2] if wanted == shape[:2] and shape[2:] == (1, 1) else shape


def check_rest(file: PublishedFile, taken: Iterable[str], unused: Sequence[str]) -> None:
    """Raise UserError if the file holds anything that is neither taken nor matched by a pattern of `unused`."""
    patterns = [re.compile(pattern) for pattern in unused]
    known = set(taken)
    strange = [name for name in file.shapes if name not in known and not any(p.match(name) for p in patterns)]
    if strange:
        raise UserError(
            f"{file.path} holds {len(strange)} tensors that do not belong to this model ({'; '.join(strange[:3])}"
            f"{'; …' if len(strange) > 3 else ''}); name the model that the file is of"
        )
