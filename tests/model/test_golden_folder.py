"""The golden tests run on another folder of the same form, with other shapes and another prefix."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def golden_tests(folder, prefix):
    environment = {**os.environ, "VIEWTIME_GOLDEN": str(folder), "VIEWTIME_GOLDEN_PREFIX": prefix}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=no",
            str(TESTS / "model" / "test_golden_forward.py"), str(TESTS / "model" / "test_golden_parts.py")]  # fmt: skip
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_another_folder_with_another_prefix(tmp_path):
    maker = [sys.executable, str(TESTS / "golden" / "make_folder.py"), str(tmp_path), "--prefix", "other:"]
    subprocess.run(maker, check=True, capture_output=True, timeout=300)
    right = golden_tests(tmp_path, "other:")
    assert right.returncode == 0, right.stdout
    assert "15 passed" in right.stdout, right.stdout
    wrong = golden_tests(tmp_path, "another:")
    assert wrong.returncode == 1, wrong.stdout
