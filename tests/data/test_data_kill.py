"""kill -9: nothing is left running, and the next run ends at the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from data_samples import save_grids, shard_digests

from viewtime.configs.schema.encode import EncodeConfig
from viewtime.data.stored import encode_command
from viewtime.data.stored.shards import is_whole

ROOT = Path(__file__).resolve().parents[2]


def started(command):
    """The command as the leader of a session of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)


def wait_for_end_of_session(leader: int) -> None:
    """Until no process of the killed leader's session is left."""
    deadline = time.monotonic() + 20
    while left := [pid for pid in psutil.pids() if session_of(pid) == leader]:
        assert time.monotonic() < deadline, f"processes {left} outlive the one that was killed"
        time.sleep(0.05)


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_kill_in_the_middle_then_again_gives_the_same_bytes(tmp_path):
    save_grids(tmp_path / "grids", 9)
    undisturbed = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), samples_per_shard=2, workers=2)
    encode_command.run(undisturbed)
    command = [sys.executable, "-m", "viewtime.cli", "encode", str(tmp_path / "grids"), "--out"]
    command += [str(tmp_path / "b"), "--samples-per-shard", "2", "--workers", "2"]
    process = started(command)
    deadline = time.monotonic() + 300
    # Kill while at least one shard is whole and at least one is not.
    while not list((tmp_path / "b").glob("shard-*.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_end_of_session(process.pid)
    whole = [path for path in (tmp_path / "b").glob("shard-*.tar") if is_whole(path)]
    assert whole, "the run was killed before its first shard"
    before = {path: path.stat().st_mtime_ns for path in whole}
    assert not (tmp_path / "b" / "dataset.json").exists()
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert shard_digests(tmp_path / "a") == shard_digests(tmp_path / "b")
    assert {path: path.stat().st_mtime_ns for path in whole} == before, "a whole shard was made twice"
    assert not list((tmp_path / "b").glob(".*partial*"))


def test_workers_of_a_killed_loader_end(tmp_path):
    process = started([sys.executable, str(Path(__file__).with_name("endless_loader.py"))])
    assert process.stdout.readline() == b"batch\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_end_of_session(process.pid)
