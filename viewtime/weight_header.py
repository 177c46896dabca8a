"""Headers of weight files, read without torch, so that a wrong file is refused at once.

A weight file is one `.safetensors`, a sharded set named by its `*.safetensors.index.json`, or a folder that holds
one of these.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from viewtime.errors import UserError
from viewtime.json_files import checked, parse_json, read_json

BYTES_OF_DTYPE = {
    **dict.fromkeys(("F64", "I64"), 8),
    **dict.fromkeys(("F32", "I32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
CONFIG_KEY = "viewtime_config"
LARGEST_HEADER = 100_000_000
NAMED_IN_ERRORS = 3


@dataclass(frozen=True)
class Entry:
    """What a header says of one tensor, and where its bytes lie."""

    dtype: str
    """As safetensors calls it: F32, BF16, …"""
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class _Item:
    """A tensor as the header writes it."""

    dtype: str
    shape: list[Annotated[int, Meta(ge=0)]]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


@dataclass(frozen=True)
class _Index:
    """The index of shards."""

    weight_map: dict[str, str]


class WeightFile(NamedTuple):
    """Header of a weight file or of all its shards."""

    config: dict[str, Any]
    entries: dict[str, Entry]
    metadata: dict[str, str] = {}  # noqa: RUF012 - never written to


def open_weights(path: str | Path) -> WeightFile:
    """Headers of a file, an index of shards, or a folder of one of these.

    Raises:
        UserError: no such file, or not a whole safetensors file.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in_folder(path)
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    return _open_file(path)


def _file_in_folder(folder: Path) -> Path:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(folder.glob("*.safetensors"))
    found = indices or files
    if len(found) != 1:
        raise UserError(f"{folder} holds {len(found)} weight files; it must hold one .safetensors file or one index")
    return found[0]


def _open_shards(index: Path) -> WeightFile:
    try:
        placed = read_json(index, _Index).weight_map
    except UserError as error:
        raise UserError(f"{error}; this is no index of weight shards") from error
    config: dict[str, Any] = {}
    entries: dict[str, Entry] = {}
    for name in sorted(set(placed.values())):
        shard = _open_file(index.parent / name)
        config |= shard.config
        entries |= shard.entries
    absent = [key for key in placed if key not in entries]
    if absent:
        raise UserError(f"{index} names {len(absent)} tensors that its shards lack: {_some(absent)}; download it again")
    return WeightFile(config, entries)


def _open_file(path: Path) -> WeightFile:
    if not path.is_file():
        raise UserError(f"no such weight file: {path}")
    total = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = file.read(length) if 2 <= length <= LARGEST_HEADER else b""
    if not text.startswith(b"{"):
        raise UserError(f"{path} {_what_it_is(start, total)}; a .safetensors file is needed")
    if len(text) < length:
        raise UserError(f"{path} is cut off inside its header ({total} bytes); download it again")
    try:
        header = parse_json(text, dict[str, Any], "its header")
        metadata = checked(header.pop("__metadata__", None) or {}, dict[str, str], "its metadata")
        items = checked(header, dict[str, _Item], "its header")
        entries = {key: _entry(path, 8 + length, item) for key, item in items.items()}
        config = parse_json(metadata.get(CONFIG_KEY, "{}"), dict[str, Any], f"its {CONFIG_KEY}")
    except UserError as error:
        raise UserError(f"{path} has a header that is not safetensors': {error}; download it again") from error
    end = max((entry.start + entry.size for entry in entries.values()), default=8 + length)
    if total < end:
        raise UserError(f"{path} is cut off: {total} of {end} bytes; download it again")
    return WeightFile(config, entries, metadata)


def _entry(path: Path, data_start: int, item: _Item) -> Entry:
    first, last = item.data_offsets
    if item.dtype not in BYTES_OF_DTYPE:
        raise UserError(f"there is no number format {item.dtype}")
    if last - first != BYTES_OF_DTYPE[item.dtype] * math.prod(item.shape):
        raise UserError(f"sizes and shapes disagree at {item}")
    return Entry(item.dtype, tuple(item.shape), path, data_start + first, last - first)


def _what_it_is(start: bytes, total: int) -> str:
    if total == 0:
        return "is empty"
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "is a pickled checkpoint (.ckpt or .pt), which can run code when opened"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "is a text file"
    return f"is not a safetensors file ({total} bytes)"


def check_keys(path: str | Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names and shapes.

    Raises:
        UserError: names the first few missing, unexpected and mis-shaped tensors and counts them all.
    """
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    shaped = [
        f"{key} is {list(found[key])}, not {list(shape)}"
        for key, shape in wanted.items()
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    groups = (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
    problems = [f"{len(names)} {label} ({_some(names)})" for label, names in groups if names]
    if problems:
        raise UserError(
            f"{path} does not fit this model: {', '.join(problems)}; choose the preset that belongs to the file"
        )


def _some(names: list[str]) -> str:
    return "; ".join(names[:NAMED_IN_ERRORS]) + ("; …" if len(names) > NAMED_IN_ERRORS else "")
