"""Preemption: SIGTERM and SIGUSR1 (slurm's warning) ask the loop to save and exit after the current step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Inside the block the two signals set `requested`; afterwards the old handlers are back.

    Attributes:
        requested: a signal has come.
        name: which one.
    """

    CAUGHT = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.requested, self.name = False, ""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested, self.name = True, signal.Signals(number).name
