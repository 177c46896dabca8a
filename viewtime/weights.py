"""Weight files: safetensors only, the config in the metadata, read strictly and without a second copy in memory.

What a weight file is, and its header, are in `viewtime.weight_header`. Tensors are read by plain file reads, one at a
time, straight into their final device and dtype: a load needs host memory for the target plus one tensor, and no
mapped pages linger.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.weight_header import CONFIG_KEY, Entry, WeightFile, check_keys, open_weights

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# One format for all floating tensors, or one for each by its name; None keeps what the file holds.
TargetDtype = torch.dtype | Callable[[str], torch.dtype] | None


class TensorInfo(NamedTuple):
    """What a header says of one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def tensor_info(entry: Entry) -> TensorInfo:
    """dtype and shape of a header's entry."""
    return TensorInfo(DTYPES[entry.dtype], entry.shape)


def save_weights(path: str | Path, tensors: Mapping[str, Tensor], config: dict[str, Any]) -> Path:
    """Write tensors and a JSON-able config to one safetensors file, atomically."""
    described = {key: TensorInfo(tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}
    return write_stream(path, described, (_bytes_of(tensor) for tensor in tensors.values()), config)


def write_stream(
    path: str | Path, described: Mapping[str, TensorInfo], data: Iterable[bytes | memoryview], config: dict[str, Any]
) -> Path:
    """Write a safetensors file whose tensors come one after another, so that it never lies in memory whole.

    Args:
        described: name -> dtype and shape, in the order of `data`.
        data: the bytes of each tensor, little-endian, C order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", CONFIG_KEY: json.dumps(config)}}
    position = 0
    for key, (dtype, shape) in described.items():
        size = dtype.itemsize * torch.Size(shape).numel()
        header[key] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for chunk in data:
            file.write(chunk)
        if file.tell() != 8 + len(text) + position:
            raise AssertionError(f"{path}: the data given has {file.tell() - 8 - len(text)} bytes, not {position}")
    return Path(path)


def read_header(path: str | Path) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """The config and each tensor's dtype and shape, without reading any tensor.

    The config is empty for a file that viewtime did not write.

    Raises:
        UserError: no such file, or not a whole safetensors file.
    """
    opened = open_weights(path)
    return opened.config, {key: tensor_info(entry) for key, entry in opened.entries.items()}


def read_tensors(
    opened: WeightFile,
    keys: Iterable[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: TargetDtype = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield (key, tensor) in the order the tensors lie on disk; floating tensors are cast to `dtype` if given.

    A function `dtype` is given the key in the file.
    """
    chosen = opened.entries if keys is None else {key: opened.entries[key] for key in keys}
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for key, entry in sorted(chosen.items(), key=lambda item: (item[1].file, item[1].start)):
            if entry.file not in files:
                files[entry.file] = stack.enter_context(entry.file.open("rb"))
            tensor = _read(files[entry.file], entry)
            wanted = dtype(key) if callable(dtype) else dtype
            target = wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype
            yield key, tensor.to(device=device, dtype=target)


def read_bytes(entry: Entry) -> bytes:
    """The bytes of one tensor as they lie in the file."""
    with entry.file.open("rb") as file:
        file.seek(entry.start)
        return file.read(entry.size)


def _read(file: BinaryIO, entry: Entry) -> Tensor:
    raw = torch.empty(entry.size, dtype=torch.uint8)
    file.seek(entry.start)
    if entry.size and file.readinto(raw.numpy().data) != entry.size:  # type: ignore[attr-defined]
        raise UserError(f"{entry.file} became shorter while it was read; download it again")
    return raw.view(DTYPES[entry.dtype]).reshape(entry.shape)


def load_weights(
    module: nn.Module | Callable[[], nn.Module],
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: TargetDtype = None,
    key_map: Callable[[str], str | None] | None = None,
    grown: bool = False,
) -> nn.Module:
    """Load a file strictly into a module.

    Args:
        module: the module, best built on the meta device, or a function that builds it (called on the meta device).
        device, dtype: where and as what the tensors end; a function `dtype` is given the name in the module.
        key_map: name in the file -> name in the module, or None for a tensor that is not wanted. Identity if absent.
        grown: the module (not on the meta device) may have tensors that the file lacks; they stay as they are.

    Returns:
        The module, its tensors replaced.

    Raises:
        UserError: names missing, unexpected or mis-shaped tensors.
    """
    if not isinstance(module, nn.Module):
        with torch.device("meta"):
            module = module()
    opened = open_weights(path)
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    renamed = {key: key_map(key) if key_map else key for key in opened.entries}
    found = {key: name for key, name in renamed.items() if name is not None}
    shapes = {name: opened.entries[key].shape for key, name in found.items()}
    if grown:
        wanted = {key: shape for key, shape in wanted.items() if key in shapes}
    check_keys(path, wanted, shapes)
    by_key = (lambda key: dtype(found[key])) if callable(dtype) else dtype
    loaded = {found[key]: tensor for key, tensor in read_tensors(opened, found, device, by_key)}
    module.load_state_dict(loaded, strict=not grown, assign=True)
    left = [name for name, tensor in module.named_buffers() if tensor.is_meta]
    assert not left, f"buffers outside the state dict cannot be loaded: {left}"
    return module


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
