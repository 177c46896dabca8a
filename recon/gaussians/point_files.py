"""Files of points to start from: .npy, .npz with colours or paths, and .ply as scanners and splatters write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from viewtime.arrays import read_array, read_arrays
from viewtime.errors import UserError
from viewtime.memory import check_memory

SH_DEGREE_0 = 0.28209479177387814  # 1 / (2 sqrt(pi)), the constant spherical harmonic
PLY_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
PLY_HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")
LONGEST_HEADER = 1 << 16


def read_points(path: Path) -> tuple[Tensor, Tensor | None]:
    """Positions [N, 3] and, where the file has them, colours [N, 3] in [0, 1].

    Colours are whole numbers from 0 to 255 or fractions from 0 to 1; a Gaussian PLY's are its constant harmonics.

    Raises:
        UserError: missing, unreadable, of another shape, or with colours of another range or number.
    """
    if not path.is_file():
        raise UserError(f"no such file of points: {path}")
    suffix, colour = path.suffix.lower(), None
    if suffix == ".npy":
        position = read_array(path)
    elif suffix == ".npz":
        arrays = read_arrays(path)
        if "tracks" in arrays:
            position = _tracks(path, arrays)[0]
        elif "positions" in arrays:
            position = arrays["positions"]
        else:
            raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}; needed: positions or tracks")
        colour = arrays.get("colours")
    elif suffix == ".ply":
        position, colour = _read_ply(path)
    else:
        raise UserError(f"{path} holds no points that can be read; give .ply, .npy or .npz")
    if not _is_table(position) or not len(position):
        raise UserError(f"{path}: points of {position.dtype} {list(position.shape)}; needed: finite numbers [N, 3]")
    if colour is not None:
        colour = _fractions(path, colour, len(position))
    return _as_tensor(position), None if colour is None else _as_tensor(colour)


def read_tracks(path: Path, frames: int) -> Tensor:
    """Paths [F, N, 3] of points over all frames.

    Raises:
        UserError: not of this shape, or for another number of frames.
    """
    tracks = _tracks(path, read_arrays(path))
    if len(tracks) != frames:
        raise UserError(f"{path}: tracks over {len(tracks)} frames; this grid has {frames}")
    return _as_tensor(tracks)


def has_tracks(path: Path | None) -> bool:
    """Whether a file of points holds their paths."""
    return path is not None and path.suffix.lower() == ".npz" and path.is_file() and "tracks" in read_arrays(path)


def _tracks(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    tracks = arrays["tracks"]
    if tracks.ndim != 3 or not tracks.size or not _is_table(tracks.reshape(-1, tracks.shape[-1])):
        raise UserError(f"{path}: tracks of {tracks.dtype} {list(tracks.shape)}; needed: finite numbers [F, N, 3]")
    return tracks


def _is_table(values: np.ndarray) -> bool:
    """Whether these are finite real numbers [N, 3] that float32 holds."""
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "iuf":
        return False
    return bool((np.abs(values.astype(np.float64)) < np.finfo(np.float32).max).all())


def _fractions(path: Path, colour: np.ndarray, count: int) -> np.ndarray:
    """Colours as fractions from 0 to 1, [N, 3]; an alpha behind them is left out."""
    if colour.ndim != 2 or len(colour) != count or colour.shape[1] not in (3, 4):
        raise UserError(f"{path}: {count} points, but colours of shape {list(colour.shape)}; needed: [{count}, 3]")
    if colour.dtype.kind not in "iuf" or not np.isfinite(colour).all():
        raise UserError(f"{path}: colours of {colour.dtype} that are no finite numbers")
    colour, white = colour[:, :3], 1.0 if colour.dtype.kind == "f" else 255.0
    low, high = float(colour.min()), float(colour.max())
    if low < 0 or high > white:
        raise UserError(
            f"{path}: colours of {colour.dtype} reach from {low:g} to {high:g}; needed: whole numbers from 0 to 255 "
            "or fractions from 0 to 1"
        )
    return colour / white


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    _check_ply(path)
    import trimesh

    try:
        loaded: Any = trimesh.load(path, process=False)
        table = loaded.metadata["_ply_raw"]["vertex"]["data"]
        position = np.stack([np.asarray(table[name]).ravel() for name in "xyz"], axis=1)
        names = set(table.dtype.names if isinstance(table, np.ndarray) else table)
        colour = None
        for choice in PLY_COLOURS:
            if names.issuperset(choice):
                colour = np.stack([np.asarray(table[name]).ravel() for name in choice], axis=1)
                break
        else:
            if names.issuperset(PLY_HARMONICS):
                harmonics = np.stack([np.asarray(table[name]).ravel() for name in PLY_HARMONICS], axis=1)
                colour = np.clip(0.5 + SH_DEGREE_0 * harmonics.astype(np.float64), 0, 1)
    except Exception as error:  # trimesh raises whatever a damaged file leads it to
        raise UserError(f"{path} holds no points that can be read: damaged, or without vertices x, y, z") from error
    return position, colour


def _check_ply(path: Path) -> None:
    """Refuse a file whose header promises more elements than it has bytes for."""
    with path.open("rb") as file:
        head = file.read(LONGEST_HEADER)
    if not head.startswith(b"ply"):
        raise UserError(f"{path} holds no points that can be read: it is no PLY file")
    size = path.stat().st_size
    for line in head.partition(b"end_header")[0].splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == b"element":
            if not words[2].isdigit() or int(words[2]) > size:
                raise UserError(f"{path} is damaged: {words[2].decode(errors='replace')} elements in {size} bytes")
            check_memory(64 * int(words[2]), str(path))


def _as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
