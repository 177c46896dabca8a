"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from viewtime.errors import UserError
from viewtime.json_files import finite_json, parse_json

# What a process that was killed may leave: .NAME.PID.partial, with the suffix of NAME behind it (and .mode, which
# `follow_umask` makes), or .NAME.PID.replaced.
LEFT_OVER = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.(?P<kind>partial(?P<suffix>\.[^.]+)?(\.mode)?|replaced)")
# Files that desktops strew over folders.
STREWN = r"(.*/)?(\.DS_Store|\._[^/]*|Thumbs\.db|desktop\.ini)"
NAMED_IN_ERRORS = 3
LOCK_NAME = ".lock"
AT_WORKING_FOLDER, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; choose another output path") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write into {folder}: permission denied; choose another output path")


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `final` with the same suffix; rename it to `final` when the block succeeds.

    Raises:
        UserError: the folder cannot be made or written.
    """
    final = Path(final)
    make_folder(final.parent)
    temporary = final.with_name(f".{final.stem}.{os.getpid()}.partial{final.suffix}")
    try:
        yield temporary
        follow_umask(temporary)
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def follow_umask(path: Path) -> None:
    """Give a file that a library made for its owner alone (0600, as safetensors does) the mode of any new file."""
    if not path.is_file() or stat.S_IMODE(path.stat().st_mode) != 0o600:
        return
    probe = path.with_name(f"{path.name}.mode")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        path.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        probe.unlink()


@contextmanager
def atomic_folder(final: str | Path, mark: str, others: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `final`; it takes the place of `final` when the block succeeds.

    An existing `final` is replaced only after the new one is complete, in one step where the file system can do that.

    Args:
        mark: a file that every folder of this kind holds.
        others: regular expressions of the paths, relative to the folder, of all else that such a folder holds.

    Raises:
        UserError: `final` holds what no folder of this kind holds, so that replacing it would delete a user's files.
    """
    final = Path(final)
    final = final.resolve() if final.is_symlink() else final
    check_replaceable(final, mark, others)
    make_folder(final.parent)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*.safetensors"):
            follow_umask(path)
        check_replaceable(final, mark, others)
        replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(final: str | Path, mark: str, others: Sequence[str] = ()) -> None:
    """Whether `final` is absent, empty, or a folder that viewtime wrote and may replace; see `atomic_folder`.

    Raises:
        UserError: it is a file, or it holds foreign files; names some of them.
    """
    final = Path(final)
    if final.exists() and not final.is_dir():
        raise UserError(
            f"{final} is a file, and a folder is to be written there; move it or choose another output path"
        )
    found = [path.relative_to(final).as_posix() for path in sorted(final.rglob("*")) if not path.is_dir()]
    ours = (re.escape(mark), *others) if mark in found else ()
    foreign = [name for name in found if not _matches(name, ours)]
    if foreign:
        more = f" and {len(foreign) - NAMED_IN_ERRORS} more" if len(foreign) > NAMED_IN_ERRORS else ""
        raise UserError(
            f"{final} is to be replaced, but viewtime did not write all of it: {', '.join(foreign[:NAMED_IN_ERRORS])}"
            f"{more}; move that elsewhere or choose another output path"
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """What desktops strew about belongs to nobody."""
    return any(re.fullmatch(pattern, name) for pattern in (STREWN, *patterns))


def replace_folder(complete: Path, final: Path) -> None:
    """Put a complete folder in the place of another, which is deleted; a kill at any moment leaves one of the two."""
    if not final.exists():
        os.replace(complete, final)
        return
    if exchange(complete, final):
        shutil.rmtree(complete)
        return
    aside = final.with_name(f".{final.name}.{os.getpid()}.replaced")
    os.replace(final, aside)
    os.replace(complete, final)
    shutil.rmtree(aside)


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = (AT_WORKING_FOLDER, os.fsencode(first), AT_WORKING_FOLDER, os.fsencode(second))
    if rename(*paths, ctypes.c_uint(EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def sweep(folder: Path) -> None:
    """Remove what killed processes left below a folder, and bring back what one of them had moved aside.

    For the holder of the folder's lock (`viewtime.run_lock`) alone: folders with a lock of their own are not entered.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if here != folder and LOCK_NAME in files:
            folders.clear()
            continue
        for name in [*folders, *files]:
            match = LEFT_OVER.fullmatch(name)
            if match is not None:
                _clear(here / name, match)
        folders[:] = [name for name in folders if LEFT_OVER.fullmatch(name) is None]


def clear_stale(final: str | Path, older_s: float = 0.0) -> None:
    """Remove what processes of this machine that are gone left of writing `final`, in a folder without a lock.

    The folder is a user's: nothing but unfinished versions of this one file or folder is touched.

    Args:
        older_s: seconds that they have not been written to; for folders in which other machines are at work.
    """
    final = Path(final)
    final = final.resolve() if final.is_symlink() else final
    for path in final.parent.glob(".*"):
        match = LEFT_OVER.fullmatch(path.name)
        if match is None or _runs(int(match["process"])):
            continue
        if match["name"] == final.name or (match["name"], match["suffix"]) == (final.stem, final.suffix):
            with suppress(OSError):  # somebody else's after all, or gone
                if time.time() - path.stat().st_mtime >= older_s:
                    _clear(path, match)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _clear(path: Path, match: re.Match[str]) -> None:
    """Remove a left-over; one that had been moved aside comes back where nothing took its place."""
    final = path.with_name(match["name"])
    if match["kind"] == "replaced" and not final.exists():
        os.replace(path, final)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def append_jsonl(path: str | Path, record: dict) -> None:
    """Append one JSON line, whole or not at all; processes may share the file. A number that is not finite is null.

    A line that a killed process left cut off at the end is taken away first.
    """
    path = Path(path)
    make_folder(path.parent)
    line = (json.dumps(finite_json(record), ensure_ascii=False, default=str) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = _whole_lines(descriptor)
        os.ftruncate(descriptor, end)
        if os.pwrite(descriptor, line, end) != len(line):
            os.ftruncate(descriptor, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def _whole_lines(descriptor: int, block: int = 1 << 16) -> int:
    """Length of a file up to and with its last line break."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - block)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_jsonl(path: str | Path) -> list[dict]:
    """All whole records; a last line cut off by a kill is left out.

    Raises:
        UserError: the file is missing or no text, or a line other than the last is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    lines = path.read_bytes().decode(errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(parse_json(line, dict, f"{path}, line {number}"))
        except UserError:
            if number == len(lines):
                break
            raise
    return records
