"""Errors for users: one line that says what was wrong, the value, the limit and the way out."""

from __future__ import annotations

import errno
import importlib
import importlib.util
from types import ModuleType

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_SPACE_WORDS = ("no space left on device", "disk quota exceeded", "unexpected pos", "failed writing file")
NO_MEMORY_WORDS = ("can't allocate memory", "cannot allocate memory", "unable to mmap", "cuda out of memory")
SHARED_MEMORY_ADVICE = (
    "run with one worker (--workers 1; for training --data.options.workers 0), "
    "or give the container /dev/shm (--shm-size)"
)
SHARED_MEMORY_MODULES = (
    "multiprocessing/synchronize.py",
    "multiprocessing/heap.py",
    "multiprocessing/shared_memory.py",
)
SHARED_MEMORY_WORDS = ("/dev/shm", "shared memory", "shm_open", "sem_open")


class UserError(ValueError):
    """Something the user can put right. Commands print its message alone; the traceback shows with `--debug`."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """A signal stopped the work in good order; commands end with 128 + its number, as shells have it."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def machine_failure(error: BaseException) -> UserError | None:
    """An exception that says something of the machine and nothing of the program, as one line; else None.

    A full disk, no memory, no shared memory, a file or folder that may not be read or written: libraries report these
    in many ways, some only in words, so that what they raised from is looked at too.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and _raised_in(link, SHARED_MEMORY_MODULES):
            return UserError(
                f"this machine gives worker processes no shared memory ({first_line(link)}): {SHARED_MEMORY_ADVICE}"
            )
        words, number = str(link).lower(), getattr(link, "errno", None)
        if number in NO_SPACE or any(text in words for text in NO_SPACE_WORDS):
            where = f" at {link.filename}" if getattr(link, "filename", None) else ""
            return UserError(f"the disk is full{where}; make room, and the same command goes on from what is whole")
        if isinstance(link, MemoryError) or any(text in words for text in NO_MEMORY_WORDS):
            return UserError(f"out of memory ({first_line(link)}); take smaller sizes or fewer workers")
        if isinstance(link, OSError | RuntimeError) and any(text in words for text in SHARED_MEMORY_WORDS):
            return UserError(
                f"this machine gives worker processes no shared memory ({first_line(link)}): {SHARED_MEMORY_ADVICE}"
            )
        link = link.__cause__ or link.__context__
    if isinstance(error, OSError) and number_of(error) and not isinstance(error, ConnectionError):
        where = f"{error.filename}: " if error.filename else ""
        return UserError(f"{where}{error.strerror}; check the path and its permissions")
    return None


def _raised_in(error: BaseException, modules: tuple[str, ...]) -> bool:
    """Whether it came through one of these files."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(modules):
            return True
        trace = trace.tb_next
    return False


def number_of(error: OSError) -> int:
    """The system's error number, 0 where a library raised the exception by itself."""
    return error.errno if isinstance(error.errno, int) and 0 < error.errno < 200 else 0


def first_line(error: BaseException) -> str:
    """What an error says, as one line; its type where it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        UserError: the module is not installed; names the extra of this package that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top_level = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top_level:
            raise UserError(
                f"{module} is installed but cannot be imported: {error}; reinstall with pip install 'viewtime[{extra}]'"
            ) from error
        raise _missing(top_level, extra) from error


def require_installed(module: str, extra: str) -> None:
    """Check for an optional dependency that a process of its own will import.

    bpy is one: imported here in a thread, it crashes this process as it exits.

    Raises:
        UserError: the module, a top-level one, is not installed; names the extra of this package that brings it.
    """
    if importlib.util.find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> UserError:
    """The error that names the extra of this package which brings `module`."""
    return UserError(f"this needs {module}, which is not installed: pip install 'viewtime[{extra}]'")
