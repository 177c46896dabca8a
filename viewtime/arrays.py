"""The one door for NumPy files: nothing is unpickled, and nothing larger than the file bears out is allocated."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from viewtime.errors import UserError, first_line
from viewtime.memory import check_memory

MOST_ARRAYS = 10_000  # in one .npz


def read_array(source: str | Path | BinaryIO, where: str | None = None) -> np.ndarray:
    """The array of an .npy file.

    Args:
        where: what to call the source in errors; default: its path.

    Raises:
        UserError: missing, no .npy file, one of objects, cut off, or larger than this machine's memory.
    """
    name = where or str(source)
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise UserError(f"no such file: {source}")
        with open(source, "rb") as file:
            return read_array(file, name)
    with _in_words(name):
        start = source.tell()
        dtype, shape = _header(source)
        size = dtype.itemsize * math.prod(shape)
        check_memory(size, f"the array {name}")
        here = source.tell()
        left = source.seek(0, io.SEEK_END) - here
        if left < size:
            raise UserError(f"{name} is cut off: its array of {shape} needs {size} bytes, {max(left, 0)} are there")
        source.seek(start)
        return np.load(source, allow_pickle=False)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive by name; unpacked one by one, each as large as its own header says.

    Raises:
        UserError: missing, no such archive, or an array of it as for `read_array`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    arrays: dict[str, np.ndarray] = {}
    with _in_words(str(path)), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ARRAYS:
            raise UserError(f"{path} holds {len(entries)} files; at most {MOST_ARRAYS} arrays are read")
        check_memory(2 * sum(entry.file_size for entry in entries), str(path))
        for entry in entries:
            with archive.open(entry) as packed:
                data = packed.read(entry.file_size + 1)
            arrays[entry.filename.removesuffix(".npy")] = read_array(io.BytesIO(data), f"{path}, {entry.filename}")
    return arrays


def _header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...]]:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"NumPy format version {version}")
    shape, _, dtype = read(file)
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError(f"an array of {dtype} {shape}")
    return dtype, shape


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Whatever a damaged file makes NumPy and zipfile raise, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{name} is no NumPy file that can be read: {reason}") from error
