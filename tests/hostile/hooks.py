"""Kills a command at one of its renames, removals and new folders, in whichever of its processes that is made.

`tests.hostile.kills` imports it, and with that so do the processes that a command starts with `multiprocessing`: these
take up the hooks by themselves. Standard library only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "unlink", "mkdir", "rmdir")
COUNTER, KILL_AT, DRIVER = "VIEWTIME_KILLS_COUNTER", "VIEWTIME_KILLS_AT", "VIEWTIME_KILLS_DRIVER"


def arm(counter: Path, kill_at: int) -> None:
    """Count the calls of this process and of those that it starts, and kill it at one of them; 0: never."""
    os.environ |= {COUNTER: str(counter), KILL_AT: str(kill_at), DRIVER: str(os.getpid())}
    hook()


def hook() -> None:
    """Take the place of the calls in this process."""
    from viewtime import files

    counter = os.open(os.environ[COUNTER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    kill_at, driver = int(os.environ[KILL_AT]), int(os.environ[DRIVER])

    def counting(real: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            os.write(counter, b".")
            if os.lseek(counter, 0, os.SEEK_CUR) == kill_at:
                os.kill(driver, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    files.exchange = counting(files.exchange)
