"""Preemption: SIGTERM and SIGUSR1 (slurm's warning) ask the run to save and exit, whatever it is doing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from viewtime.train.distributed import agreed_maximum


class StopRequested(Exception):  # noqa: N818 - no error: somebody asked for it
    """A signal has come; the work in hand is given up where nothing is half done."""


class StopSignals:
    """Inside the block the two signals set `number`; afterwards the old handlers are back.

    Args:
        accelerator: of a run of several processes, which stop together.

    Attributes:
        number: of the signal that came, 0 before.
    """

    CAUGHT = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        self.several = accelerator is not None and accelerator.num_processes > 1
        self.number = 0
        self._interrupting = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        if self._interrupting:
            raise StopRequested

    @property
    def name(self) -> str:
        """Which signal came; it may have come to another process."""
        return signal.Signals(self.number).name if self.number else "a signal to another process"

    def check(self) -> None:
        """Raise StopRequested if a signal came to any of the processes; every process must call it (a collective)."""
        self.heed(int(agreed_maximum(self.accelerator, [self.number])[0]) if self.several else self.number)

    def heed(self, number: int) -> None:
        """Raise StopRequested for the signal on which the processes have agreed; 0: none."""
        if number:
            self.number = number
            raise StopRequested

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """A signal interrupts the block at once: for waiting and preparing, which leave nothing half done.

        Several processes cannot be interrupted one by one while others wait for them: there `check` alone stops them.
        """
        if self.several:
            yield
            return
        self.check()
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False
