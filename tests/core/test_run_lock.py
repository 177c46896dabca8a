"""One run a folder; what killed runs left is swept, what is not theirs stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from viewtime import run_lock
from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.files import clear_stale
from viewtime.run_folder import forget_failed_starts, start_run
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


def test_nothing_is_left_of_a_run_that_failed_at_once(tmp_path, monkeypatch):
    """But for folders that were there before, hold what somebody may want, or are another run's that came first."""
    (tmp_path / "mine").mkdir()
    for name, inside in (("new", ()), ("mine", ()), ("fit", ("state.fingerprint",)), ("kept", ("state.pt",))):
        with alone_in(tmp_path / name):
            for file in inside:
                start_run(tmp_path / name, "reconstruct", {})
                (tmp_path / name / file).touch()

    def refused(descriptor: int, folder: Path) -> None:
        raise UserError("another run is writing")

    monkeypatch.setattr(run_lock, "_take", refused)
    with pytest.raises(UserError, match="another run"), alone_in(tmp_path / "anothers"):
        pass
    forget_failed_starts()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anothers", "kept", "mine"]


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


def test_beside_a_users_files_only_a_results_own_unfinished_versions_go(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    ours = [f".a.{gone.pid}.partial.glb", f".a.glb.{gone.pid}.partial", f".a.{gone.pid}.partial.glb.mode"]
    kept = [
        f".a.{os.getpid()}.partial.glb",  # being written
        f".b.{gone.pid}.partial.glb",  # of another result
        f".a.{gone.pid}.partial.obj",
        ".a.partial.glb",
        "a.glb",
    ]
    for name in (*ours, *kept):
        (tmp_path / name).write_text("x")
    clear_stale(tmp_path / "a.glb", older_s=60)
    assert len(list(tmp_path.iterdir())) == len(ours) + len(kept)
    clear_stale(tmp_path / "a.glb")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_was_moved_aside_comes_back_where_its_place_is_empty(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".grid.{gone.pid}.replaced").mkdir()
    (tmp_path / f".grid.{gone.pid}.replaced" / "inside").write_text("x")
    clear_stale(tmp_path / "grid")
    assert [path.name for path in tmp_path.iterdir()] == ["grid"]
    assert (tmp_path / "grid" / "inside").is_file()


def test_a_command_clears_what_a_killed_one_left_of_its_results(tmp_path, monkeypatch, capsys):
    gone = subprocess.Popen(["true"])
    gone.wait()
    stale = tmp_path / f".asset.{gone.pid}.partial.glb"
    stale.write_text("x")
    monkeypatch.setattr("viewtime.info.run", lambda config: [tmp_path / "asset.glb"])
    assert main(["info"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "asset.glb")
    assert not stale.exists()
