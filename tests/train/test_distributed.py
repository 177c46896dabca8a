"""Two CPU processes: DDP, ZeRO-2, ZeRO-3, each killed and resumed; gradients against one process. Guards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from viewtime.files import read_jsonl

from .conftest import ROOT, environment, start, write_config

LAUNCH_CONFIGS = ROOT / "configs" / "launch"
STEPS = 8
pytestmark = pytest.mark.timeout(1800)  # a launch is 10 s of imports in each process; a busy machine takes minutes


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launcher(kind: str) -> list[str]:
    """The command in front of train/train.py."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", str(free_port())]
    if kind == "single":
        return [sys.executable]
    return [*accelerate, "--config_file", str(LAUNCH_CONFIGS / f"cpu2-{kind}.yaml")]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_jsonl(folder / "metrics.jsonl") if "loss" in record]


def run_killed(arguments: list[str], kind: str, folder: Path) -> None:
    """Start a run, and kill the launcher and its workers with SIGKILL once step 6 is in the log."""
    command = [*launcher(kind), str(ROOT / "train" / "train.py"), *arguments]
    slow = environment(VIEWTIME_TEST_STEP_DELAY="0.4")
    process = subprocess.Popen(
        command, env=slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        log = folder / "metrics.jsonl"
        if log.is_file() and len(read_jsonl(log)) >= 6:
            break
        time.sleep(0.05)
    alive = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert alive, process.stderr.read().decode()[-2000:] if process.stderr else ""


@pytest.fixture
def config(tmp_path) -> str:
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": STEPS}]
    return str(
        write_config(
            tmp_path,
            stages=stages,
            device="auto",
            data={"factory": "tests.train.slow_stream:slow_stream", "options": {"size": 16, "views": 3, "frames": 2}},
        )
    )


def check_resume(kind: str, config: str, tmp_path: Path) -> list[float]:
    """Undisturbed, and killed and resumed: the same losses. Returns them."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start(["--config", config, "--output", str(whole)], launcher(kind))
    assert done.returncode == 0, done.stderr[-3000:]
    run_killed(["--config", config, "--output", str(killed)], kind, killed)
    assert not (killed / "checkpoints" / f"step_{STEPS:08d}").exists()
    again = start(["--config", config, "--output", str(killed)], launcher(kind))
    assert again.returncode == 0, again.stderr[-3000:]
    assert "resumed from" in again.stderr
    expected = losses(whole)
    assert len(expected) == STEPS
    if kind == "single":
        assert losses(killed) == expected
    assert losses(killed) == pytest.approx(expected, rel=1e-5)
    first, second = load_file(whole / "weights.safetensors"), load_file(killed / "weights.safetensors")
    assert all(torch.allclose(first[name], second[name], rtol=1e-5, atol=1e-7) for name in first)
    return expected


@pytest.mark.slow
def test_single_process_survives_kill_9(config, tmp_path):
    check_resume("single", config, tmp_path)


def test_ddp_survives_kill_9(config, tmp_path):
    check_resume("ddp", config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
def test_deepspeed_survives_kill_9(config, tmp_path, kind: str):
    check_resume(kind, config, tmp_path)


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """Same global batch of 4: one process with 4, two with 2 each; gradients and losses within 1e-5 relative."""
    worker = ["-m", "tests.train.gradient_worker"]
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    for launch, batch, path in (
        ([sys.executable], 4, alone),
        (
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())],
            2,
            together,
        ),
    ):
        command = [*launch, *worker, str(batch), str(path), str(tmp_path / path.stem)]
        done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = load_file(alone), load_file(together)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        difference = float((second[name] - gradient).norm() / gradient.norm().clamp_min(1e-12))
        assert difference < 1e-5, f"{name}: {difference}"


@pytest.mark.slow
def test_strategies_agree(config, tmp_path):
    """DDP, ZeRO-2 and ZeRO-3 of one seed give the same losses."""
    found = {}
    for kind in ("ddp", "zero2", "zero3"):
        done = start(["--config", config, "--output", str(tmp_path / kind)], launcher(kind))
        assert done.returncode == 0, done.stderr[-3000:]
        found[kind] = losses(tmp_path / kind)
    assert found["zero2"] == pytest.approx(found["ddp"], rel=1e-4)
    assert found["zero3"] == pytest.approx(found["ddp"], rel=1e-4)
