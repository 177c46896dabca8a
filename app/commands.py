"""A command of viewtime in a process of its own: what it says as it says it, stopped when asked, not run twice."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from viewtime.errors import UserError
from viewtime.files import atomic_path

STOP_SECONDS = 20.0  # after which a process that was asked to stop is ended
LAST_LINES = 12
PROGRESS = re.compile(r"\x1b\[2K")
RECORD = "app.json"
_running: dict[Path, subprocess.Popen] = {}
_asked_to_stop: set[Path] = set()
_guard = threading.Lock()


class CancelledError(UserError):
    """The user stopped a command; what it had finished is kept."""


def finished(run: Path, stage: str, words: list[str], results: list[Path]) -> bool:
    """Whether a stage of a run ended well with these very words and its results are still there."""
    return _record(run).get(stage) == words and all(path.exists() for path in results)


def _record(run: Path) -> dict[str, list[str]]:
    try:
        return json.loads((run / RECORD).read_text())
    except (OSError, ValueError):
        return {}


def _write_record(run: Path, record: dict[str, list[str]]) -> None:
    with atomic_path(run / RECORD) as path:
        path.write_text(json.dumps(record, indent=1))


def perform(run: Path, stage: str, words: list[str]) -> Iterator[str]:
    """Run `viewtime WORDS` for a stage of a run; yields the last lines of what it says whenever they change.

    Raises:
        UserError: the command's own error line, or another command of this run is at work.
        CancelledError: `cancel` was called.
    """
    run.mkdir(parents=True, exist_ok=True)
    _write_record(run, {name: said for name, said in _record(run).items() if name != stage})
    terminal, end = pty.openpty()
    with _guard:
        if run in _running:
            os.close(terminal)
            os.close(end)
            raise UserError(f"{run.name}: this video is already being worked on; wait for it or cancel it")
        process = subprocess.Popen(
            [sys.executable, "-m", "viewtime.cli", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end, start_new_session=True,
        )  # fmt: skip
        _running[run] = process
    os.close(end)
    said = Said()
    try:
        while block := _read(terminal):
            said.hear(block.decode(errors="replace"))
            yield said.text()
        code = process.wait()
    finally:
        os.close(terminal)
        end_process(process)
        with _guard:
            stopped = run in _asked_to_stop
            _asked_to_stop.discard(run)
            _running.pop(run, None)
    if stopped:
        raise CancelledError("cancelled; the same button goes on from what was finished")
    if code:
        raise UserError(said.lines[-1] if said.lines else f"viewtime {words[0]} ended with {code}")
    _write_record(run, {**_record(run), stage: words})


def _read(terminal: int) -> bytes:
    """What a process wrote; nothing where it has ended, which Linux reports as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


class Said:
    """The lines of a command, of which a progress bar rewrites the last one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.half = ""

    def hear(self, block: str) -> None:
        """Take in the next characters."""
        *whole, self.half = (self.half + block).replace("\r\n", "\n").split("\n")
        self.lines += [_last_state(line) for line in whole if _last_state(line)]

    def text(self) -> str:
        """The last lines, the unfinished one too."""
        return "\n".join([*self.lines[-LAST_LINES:], *filter(None, [_last_state(self.half)])])


def _last_state(line: str) -> str:
    """What a terminal would show of a line that was rewritten."""
    states = [state.strip() for state in PROGRESS.split(line)]
    return next((state for state in reversed(states) if state), "")


def cancel(run: Path) -> bool:
    """Ask the command of a run to stop, as Ctrl-C does; whether there was one."""
    with _guard:
        process = _running.get(run)
        if process is None:
            return False
        _asked_to_stop.add(run)
    threading.Thread(target=end_process, args=(process,), daemon=True).start()
    return True


def end_process(process: subprocess.Popen) -> None:
    """End a process and those it started, gently first."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def end_all() -> None:
    """End whatever is at work, when the server ends."""
    with _guard:
        processes = list(_running.values())
    for process in processes:
        end_process(process)
