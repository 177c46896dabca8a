"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viewtime.errors import UserError


def _make_parent(final: Path) -> None:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {final.parent}: {error.strerror}; choose another output path"
        ) from error
    if not os.access(final.parent, os.W_OK):
        raise UserError(f"cannot write into {final.parent}: permission denied; choose another output path")


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `final` with the same suffix; rename it to `final` when the block succeeds.

    Raises:
        UserError: the folder cannot be made or written.
    """
    final = Path(final)
    _make_parent(final)
    temporary = final.with_name(f".{final.stem}.{os.getpid()}.partial{final.suffix}")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `final`; it takes the place of `final` when the block succeeds.

    An existing `final` is replaced only after the new one is complete.
    """
    final = Path(final)
    _make_parent(final)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    replaced = final.with_name(f".{final.name}.{os.getpid()}.replaced")
    try:
        yield temporary
        if final.exists():
            os.replace(final, replaced)
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def append_jsonl(path: str | Path, record: dict) -> None:
    """Append one JSON line; a line is written by one system call, so that processes may share the file."""
    path = Path(path)
    _make_parent(path)
    line = json.dumps(record, ensure_ascii=False, default=str) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_jsonl(path: str | Path) -> list[dict]:
    """All whole records; a last line cut off by a kill is left out.

    Raises:
        UserError: the file is missing, or a line other than the last is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    lines = path.read_text().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number} is not JSON: {error}") from error
    return records
