"""A weight file of any format as tensors under our names, each read only when it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from viewtime.weight_header import Entry, check_keys
from viewtime.weights import TensorInfo, read_bytes, tensor_info

from .diffusers_files import THIRD_NUMBER, open_diffusers
from .diffusers_keys import Piece, diffusers_pieces
from .identify import Identified
from .published_keys import is_unused, used_names
from .video_config import VideoModelConfig

UNUSED_PREFIX = "unused."


class Source(NamedTuple):
    """One tensor: its header, and a function that reads its bytes."""

    info: TensorInfo
    read: Callable[[], bytes]


def sources(path: Path, found: Identified) -> dict[str, Source]:
    """Our name -> source, of all tensors the model uses; a published file's other tensors come as `unused.NAME`.

    Raises:
        UserError: tensors are missing, unknown or mis-shaped.
    """
    if found.format == "diffusers":
        return _from_diffusers(path, found.config)
    assert found.file is not None
    entries = found.file.entries
    if found.format == "stability":
        table = {published: ours for ours, (published, _) in used_names(found.config).items()}
        named = {table.get(key, UNUSED_PREFIX + key if is_unused(key) else key): key for key in entries}
    else:
        named = {key: key for key in entries}
    used = {ours: entries[key].shape for ours, key in named.items() if not ours.startswith(UNUSED_PREFIX)}
    check_keys(path, {ours: shape for ours, (_, shape) in used_names(found.config).items()}, used)
    return {ours: _source(entries[key]) for ours, key in named.items()}


def _source(entry: Entry) -> Source:
    return Source(tensor_info(entry), lambda: read_bytes(entry))


def _from_diffusers(path: Path, config: VideoModelConfig) -> dict[str, Source]:
    gathered: dict[str, list[tuple[Piece, Entry]]] = {}
    for folder in ("unet", "vae", "image_encoder"):
        entries = open_diffusers(path, folder).entries
        pieces = [piece for piece in diffusers_pieces(config) if piece.folder == folder]
        missing = {piece.key: () for piece in pieces if piece.key not in entries}
        check_keys(path / folder, missing, {})
        for piece in pieces:
            gathered.setdefault(piece.ours, []).append((piece, entries[piece.key]))
    shapes = {ours: shape for ours, (_, shape) in used_names(config).items()}
    return {ours: _assembled(parts, shapes[ours]) for ours, parts in gathered.items()}


def _assembled(parts: list[tuple[Piece, Entry]], shape: tuple[int, ...]) -> Source:
    ordered = sorted(parts, key=lambda part: THIRD_NUMBER.get(part[0].change, 0))
    piece, entry = ordered[0]
    info = TensorInfo(tensor_info(entry).dtype, shape)
    if piece.change == "transpose":
        return Source(info, lambda: transposed(read_bytes(entry), tensor_info(entry)))
    return Source(info, lambda: b"".join(read_bytes(part) for _, part in ordered))


def transposed(data: bytes, info: TensorInfo) -> bytes:
    """Bytes of the transposed matrix."""
    matrix = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(info.dtype).reshape(info.shape)
    return matrix.t().contiguous().view(torch.uint8).numpy().tobytes()
