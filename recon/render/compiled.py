"""Builds a C++ kernel once per machine and loads it; the built library is kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from viewtime.errors import first_line
from viewtime.files import clear_stale
from viewtime.log import log

SOURCE = Path(__file__).with_name("splat_cpu.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-pthread")
ABANDONED_S = 3600.0  # seconds after which an unfinished build of a process that is gone is nobody's on any machine


def cache_folder() -> Path:
    """Where built kernels live: $VIEWTIME_CACHE, else the user's cache folder."""
    base = (
        os.environ.get("VIEWTIME_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "viewtime"
    )
    return Path(base) / "kernels"


def _processor() -> str:
    """What -march=native depends on; a cache shared by several machines must not mix their builds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def library_path(source: Path = SOURCE) -> Path:
    """File name of the built library; changes with the source, its folder's headers, the flags and the processor."""
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    key = "\n".join([*texts, *FLAGS, platform.machine(), _processor()])
    return cache_folder() / f"{source.stem}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"


def _build(source: Path, target: Path) -> None:
    """Compile in a folder of our own: torch's loader waits for ever on the lock of a build that was killed."""
    loader_log = logging.getLogger("torch.utils.cpp_extension")
    level = loader_log.level
    loader_log.setLevel(logging.ERROR)
    try:
        from torch.utils.cpp_extension import load

        target.parent.mkdir(parents=True, exist_ok=True)
        clear_stale(target, ABANDONED_S)
        prefix = f".{target.name}.{os.getpid()}.partial."  # what a kill leaves is known by its name
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
            built = load(
                name=source.stem, sources=[str(source)], extra_cflags=list(FLAGS), extra_ldflags=["-pthread"],
                build_directory=folder, is_python_module=False, with_cuda=False,
            )  # fmt: skip
            shutil.copy2(str(built), Path(folder) / "finished.so")
            (Path(folder) / "digest").write_text(_digest(Path(folder) / "finished.so"))
            os.replace(Path(folder) / "finished.so", target)
            os.replace(Path(folder) / "digest", target.with_suffix(".sha256"))
    finally:
        loader_log.setLevel(level)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(library: Path) -> bool:
    """Whether a built library is there as it was built; one cut off would end the process when it is called."""
    digest = library.with_suffix(".sha256")
    return library.is_file() and digest.is_file() and digest.read_text() == _digest(library)


@functools.cache
def load_library(source: Path = SOURCE) -> ctypes.CDLL | None:
    """The kernel, built on first use; None, after one line in the log, where it cannot be built."""
    path = library_path(source)
    try:
        if not is_whole(path):
            _build(source, path)
        return ctypes.CDLL(str(path))
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        reason = first_line(error)
        advice = "name a folder that can be written in VIEWTIME_CACHE" if _of_cache(error) else "install g++ and ninja"
        log.warning("no compiled %s (%s): slower kernels take its place; %s", source.stem, reason, advice)
        return None


def _of_cache(error: Exception) -> bool:
    """Whether the cache folder, what it lies in or what lies in it was at fault."""
    place, folder = Path(str(getattr(error, "filename", None) or ".")).absolute(), cache_folder().absolute()
    return isinstance(error, OSError) and (folder.is_relative_to(place) or place.is_relative_to(folder))


def address(array: np.ndarray) -> ctypes.c_void_p:
    """A contiguous array's memory; the caller keeps the array alive."""
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def addresses(arrays: Sequence[np.ndarray]) -> Any:
    """The arrays' memory as a C array of pointers."""
    return (ctypes.c_void_p * len(arrays))(*[address(array) for array in arrays])
