"""One run at a time in a folder: a second one is refused instead of both dying of each other's files."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viewtime.errors import UserError
from viewtime.files import LOCK_NAME, make_folder, sweep
from viewtime.log import log
from viewtime.run_folder import begin_in

BUSY = "another run is writing to {}; wait for it or choose another output path"
_held: set[Path] = set()


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a run folder, made if absent, and begin with it rid of what killed runs left there.

    The lock is a POSIX record lock: worker processes do not inherit it, and it ends with this process however that
    ends. A file system without locks is used without one, which is said.

    Raises:
        UserError: another run, of this process or another, holds it; or the folder cannot be made or written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give the path of a folder")
    key = folder.resolve()
    if key in _held:  # opening and closing the file once more would end the lock
        raise UserError(BUSY.format(folder))
    fresh = not folder.exists()
    make_folder(folder)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(descriptor, folder)
        if fresh:  # and not another's, who has just made it
            begin_in(folder)
        _held.add(key)
        sweep(folder)
        yield
    finally:
        _held.discard(key)
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(BUSY.format(folder)) from error
        log.warning("%s has no locks (%s): do not start a second run there", folder, error.strerror)
