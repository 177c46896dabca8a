"""The progress bar by a clock of the test: when a line is printed, and what it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from viewtime import log
from viewtime.log import Bar, progress, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock whose `now` the test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def walk(bar: Bar, clock: SimpleNamespace, *times: float) -> None:
    for time in times:
        clock.now = 100.0 + time
        bar.advance()


def test_long_work_says_so_at_once_and_then_every_ten_seconds(clock, capsys) -> None:
    bar = Bar("fit", 100)
    walk(bar, clock, 2, 4, 11.9, 12, 13)
    assert capsys.readouterr().err.splitlines() == ["fit: 1/100, 198 s left (2 s)", "fit: 4/100, 288 s left (12 s)"]
    clock.now = 120.0
    bar.close()
    assert capsys.readouterr().err == "fit: 5/100, 380 s left (20 s)\n"
    bar.close()
    assert capsys.readouterr().err == ""


def test_short_work_is_silent(clock, capsys) -> None:
    bar = Bar("fit", 5)
    walk(bar, clock, 1, 1.2, 1.4, 1.6, 1.8)
    bar.close()
    assert capsys.readouterr().err == ""
    bar = Bar("fit", 2)
    walk(bar, clock, 1.3, 4.5)
    bar.close()
    assert capsys.readouterr().err == "fit: 2/2 (3 s)\n"


def test_work_without_an_end_and_notes(clock, capsys) -> None:
    bar = Bar("fit", None)
    clock.now = 111.0
    bar.advance(3, "PSNR 30")
    clock.now = 122.0
    bar.advance(2)
    assert capsys.readouterr().err.splitlines() == ["fit: 3 (11 s) PSNR 30", "fit: 5 (22 s) PSNR 30"]


def test_a_terminal_gets_one_line_that_is_written_over(clock, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = Bar("fit", 4)
    walk(bar, clock, 0.05, 0.12, 0.13, 0.3)
    bar.close()
    lines = [f"\x1b[2Kfit: {done}" for done in ("2/4, 0 s left (0 s)\r", "4/4 (0 s)\r", "4/4 (0 s)\n")]
    assert capsys.readouterr().err == "".join(lines)


def test_who_listens_hears_each_step(clock) -> None:
    heard: list[int] = []
    with progress_bar("fit", 3, heard.append) as bar:
        bar.advance()
        bar.advance(0, "note")
        bar.advance(2)
    assert heard == [1, 3]
    assert list(progress(iter("abc"), "letters")) == ["a", "b", "c"]


def test_progress_knows_how_many(clock, capsys) -> None:
    for item in progress([3, 4], "items"):
        clock.now += 6 * item
    assert capsys.readouterr().err.splitlines() == ["items: 1/2, 18 s left (18 s)", "items: 2/2 (42 s)"]
