"""Every format damaged by a fixed seed: a value or one line, never a traceback, in bounded memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.formats import FORMATS
from tests.hostile.fuzz import fuzz

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_in_one_line(name):
    counts, bare = fuzz(name, 12, seed=0)
    assert not bare
    assert counts.total() == 12
    assert counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_damaged_files_in_two_gigabytes():
    cases = -(-10_000 // len(FORMATS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", str(cases), "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
