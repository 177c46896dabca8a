"""`configs/launch/slurm.sh` with a stand-in for slurm: its warning makes every worker save, and the job says so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from viewtime.files import read_jsonl

from .conftest import ROOT, environment, write_config

SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit=1
exec setsid --wait bash -c 'echo $$ > "$STEP_FILE"; exec "$@"' step "$@"
"""


def stand_in(folder: Path) -> None:
    """`srun` that starts its command as a session of its own, `scontrol` that knows one host."""
    accelerate = f'#!/bin/bash\nexec {sys.executable} -m accelerate.commands.accelerate_cli "$@"\n'
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho localhost\n"), ("accelerate", accelerate)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def wait_for(condition, process: subprocess.Popen, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the job has ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whom", ["every process", "the first process"])
def test_a_warning_makes_all_workers_save_and_the_job_ends_with_138(tmp_path, whom: str):
    """Two processes; the launcher sees the warning too, and lives."""
    tools, run = tmp_path / "tools", tmp_path / "run"
    tools.mkdir()
    stand_in(tools)
    stream = {"factory": "tests.train.slow_stream:slow_stream", "options": {"size": 16, "views": 3, "frames": 2}}
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 10_000}]
    config = write_config(tmp_path, data=stream, stages=stages, device="auto", checkpoint={"every_steps": 10**6})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    slurm = {"SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_PORT": port}
    settings = environment(
        **slurm, LAUNCH="cpu2-ddp", GPUS="2", STEP_FILE=str(tmp_path / "step"), VIEWTIME_TEST_STEP_DELAY="0.1"
    )
    settings["PATH"] = f"{tools}{os.pathsep}{settings['PATH']}"
    command = ["bash", "configs/launch/slurm.sh", "--config", str(config), "--output", str(run)]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=log, stderr=log)
        metrics = run / "metrics.jsonl"
        wait_for(lambda: metrics.is_file() and len(read_jsonl(metrics)) >= 2, job)
        first = int((tmp_path / "step").read_text())
        (os.killpg if whom == "every process" else os.kill)(first, signal.SIGUSR1)
        status = job.wait(timeout=400)
    text = (tmp_path / "log").read_text()
    assert status == 138, text[-3000:]
    saved = [path.name for path in (run / "checkpoints").glob("step_*")]
    assert len(saved) == 1
    assert text.count(f"stopped by SIGUSR1 at step {int(saved[0].removeprefix('step_'))}") == 2
    assert text.count("exitcode  : 138") == 2
