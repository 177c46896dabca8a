"""One run a folder; what killed runs left is swept, what is not theirs stays."""

import os
import signal
import subprocess
import sys

import pytest

from viewtime.errors import UserError
from viewtime.run_lock import alone_in

HOLD = """
import sys, time
from viewtime.run_lock import alone_in
with alone_in(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_until_the_first_is_gone(holder, tmp_path):
    with pytest.raises(UserError, match="another run is writing to"), alone_in(tmp_path / "run"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path / "run"):
        with pytest.raises(UserError, match="another run is writing to"), alone_in(tmp_path / "run"):
            pass
        code = "import sys; from viewtime.run_lock import alone_in; alone_in(sys.argv[1]).__enter__()"
        refused = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
        assert "another run is writing to" in refused.stderr


def test_what_killed_runs_left_goes_and_the_rest_stays(tmp_path):
    run = tmp_path / "run"
    for folder in (
        ".grid.123.partial",
        ".scratch-x1.123.partial",
        "windows",
        "other/.grid.7.partial",
        ".kept.9.replaced",
        ".gone.9.replaced",
        "kept",
    ):
        (run / folder).mkdir(parents=True)
    for file in (
        ".preview.123.partial.png", "windows/.window_0001.5.partial.safetensors", "windows/window_0001.safetensors",
        ".mine", ".notes.partial.txt", "other/.lock", ".gone.9.replaced/inside", "kept/inside",
    ):  # fmt: skip
        (run / file).write_text("x")
    with alone_in(run):
        left = sorted(
            os.path.relpath(os.path.join(place, name), run) for place, _, names in os.walk(run) for name in names
        )
    assert left == sorted(
        [
            ".lock",
            ".mine",
            ".notes.partial.txt",
            "gone/inside",
            "kept/inside",
            "other/.lock",
            "windows/window_0001.safetensors",
        ]
    )
    assert (run / "other" / ".grid.7.partial").is_dir()
    assert not (run / ".grid.123.partial").exists()
    assert not (run / ".scratch-x1.123.partial").exists()
