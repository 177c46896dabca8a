"""Logging to standard error and progress bars that stay readable in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

log = logging.getLogger("viewtime")
Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def set_up_logging(debug: bool = False) -> None:
    """Send the package's messages to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False


class Bar:
    """A progress bar on a terminal; otherwise a line with the ETA every ten seconds.

    Work that will take longer says so after its first step. No state is written twice.
    """

    def __init__(self, description: str, total: int | None, on_step: Callable[[int], None] | None = None) -> None:
        self.description, self.total, self.done, self.note, self.shown = description, total, 0, "", -1
        self.start = self.printed = time.monotonic()
        self.terminal, self.on_step = sys.stderr.isatty(), on_step

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` (e.g. "PSNR 31.2 dB") is shown behind the bar."""
        self.done, self.note = self.done + steps, note or self.note
        now = time.monotonic()
        long = self.shown < 0 and (now - self.start) * (self.total or 0) > SECONDS_BETWEEN_LINES * self.done > 0
        if long or now - self.printed >= (0.1 if self.terminal else SECONDS_BETWEEN_LINES):
            self.printed = now
            self._show(end="\r" if self.terminal else "\n")
        if self.on_step is not None and steps:
            self.on_step(self.done)

    def _show(self, end: str) -> None:
        elapsed = time.monotonic() - self.start
        text = f"{self.description}: {self.done}"
        if self.total and self.done >= self.total:
            text += f"/{self.total}"
        elif self.total:
            remaining = elapsed / max(self.done, 1) * (self.total - self.done)
            text += f"/{self.total}, {remaining:.0f} s left"
        text = f"{text} ({elapsed:.0f} s) {self.note}".rstrip()
        self.shown = self.done
        print(f"\x1b[2K{text}" if self.terminal else text, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on its own line, once, if the work took long enough to have been shown."""
        on_its_line = self.terminal and self.shown >= 0
        if on_its_line or (self.shown != self.done and time.monotonic() - self.start > 2.0):
            self._show(end="\n")


@contextmanager
def progress_bar(
    description: str, total: int | None = None, on_step: Callable[[int], None] | None = None
) -> Iterator[Bar]:
    """A bar to advance by hand; closed also when the work fails. `on_step` hears how many steps are done."""
    bar = Bar(description, total, on_step)
    try:
        yield bar
    finally:
        bar.close()


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar; `total` is taken from `len` where there is one."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress_bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
