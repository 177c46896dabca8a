"""A command killed at a rename, a removal, a new folder or any moment leaves, once run again, what an undisturbed run
leaves."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.commands import CASES

ROOT = Path(__file__).resolve().parents[2]


def kills(*arguments: str) -> None:
    command = [sys.executable, "-m", "tests.hostile.kills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["encode", "sample"])
def test_a_few_kills(command):
    kills(command, "4")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", CASES)
def test_every_kill(command):
    kills(command)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", CASES)
def test_kills_at_any_moment(command):
    kills(command, "30", "1", "moments")
