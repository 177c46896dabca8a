"""Two CPU processes: every strategy against one process, each killed and resumed; gradients. Guards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from viewtime.files import read_jsonl

from .breaking import Breaking
from .conftest import ROOT, environment, free_port, run_worker, start, write_config

LAUNCH_CONFIGS = ROOT / "configs" / "launch"
STEPS = 8
REDUCED = "tests/train/reduced_worker.py"
pytestmark = pytest.mark.timeout(1800)  # a launch is 10 s of imports in each process; a busy machine takes minutes


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


def train(config: str, kind: str, folder: Path, *changes: str) -> subprocess.CompletedProcess:
    """A run of two processes under a strategy, or of one ("single"), to its end.

    FSDP2 through `fsdp2_worker`: accelerate chooses it on GPUs only.
    """
    arguments = ["--config", config, "--output", str(folder), *changes]
    if kind == "fsdp2":
        return run_worker("tests.train.fsdp2_worker", *arguments)
    done = start(arguments, launcher(kind))
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def apart(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Distance of two models' weights over the length of the first."""
    size = sum(float(tensor.square().sum()) for tensor in weights.values())
    return (sum(float((weights[name] - others[name]).square().sum()) for name in weights) / size) ** 0.5


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


@pytest.mark.slow
def test_fsdp2_resumes(config, tmp_path):
    """Sharded over two processes, to the end and once more from step 4: the same losses and weights."""
    found = []
    for _ in range(2):
        done = train(config, "fsdp2", tmp_path)
        found.append((losses(tmp_path), load_file(tmp_path / "weights.safetensors")))
        shutil.rmtree(tmp_path / "checkpoints" / f"step_{STEPS:08d}")
    assert "resumed from" in done.stderr
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert apart(found[0][1], found[1][1]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("zero2", "bf16"), ("zero3", "fp32")])
def test_deepspeed_skips_non_finite_gradients_and_keeps_inputs_exact(tmp_path, kind: str, precision: str):
    """Step 3: NaN gradient in its first micro-batch. Step 5: NaN loss in its second. Both are skipped whole."""
    bad = {"gradient_at": [5], "output_at": [10], "reduced": precision == "bf16"}
    path = write_config(
        tmp_path,
        model={"name": "tests.train.breaking:Breaking", "config": bad},
        optimizer={"accumulate": 2},
        precision=precision,
        device="auto",
    )
    done = start(["--config", str(path), "--output", str(tmp_path / "run")], launcher(kind), REDUCED)
    assert done.returncode == 0, done.stderr[-3000:]
    records = [record for record in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "loss" in record]
    assert [record["skipped"] for record in records] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [record["grad_norm"] is not None for record in records] == [True, True, False, True, False, *[True] * 3]
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """Same global batch of 4: one process with 4, two with 2 each; gradients and losses within 1e-5 relative."""
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    for processes, batch, path in ((1, 4, alone), (2, 2, together)):
        arguments = (str(batch), str(path), str(tmp_path / path.stem))
        run_worker("tests.train.gradient_worker", *arguments, processes=processes)
    first, second = load_file(alone), load_file(together)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        difference = float((second[name] - gradient).norm() / gradient.norm().clamp_min(1e-12))
        assert difference < 1e-5, f"{name}: {difference}"


@pytest.mark.slow
def test_strategies_agree_with_one_process(config, tmp_path):
    """Losses and weights of two processes are those of one with both batches, by every strategy, within 1e-5."""
    found = {}
    for kind in ("single", "ddp", "zero2", "zero3", "fsdp2"):
        together = ("--stages.0.batch_size", "4", "--device", "cpu") if kind == "single" else ()
        # Adam divides a gradient that is zero but for rounding by its own size; not so with this eps.
        train(config, kind, tmp_path / kind, "--optimizer.eps", "1e-5", *together)
        found[kind] = losses(tmp_path / kind), load_file(tmp_path / kind / "weights.safetensors")
    expected, weights = found.pop("single")
    for kind, (seen, own) in found.items():
        assert seen == pytest.approx(expected, rel=1e-5), kind
        assert own.keys() == weights.keys()
        assert apart(own, weights) < 1e-5, kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
def test_averages_of_bfloat16_training_follow_the_masters(tmp_path, kind: str):
    """60 steps too small for the rounded weights to move: the exported average moves as it does in float32."""
    settings = {
        "model": {"name": "tests.train.breaking:Breaking"},
        "schedule": {"warmup_steps": 0},
        "optimizer": {"name": "adamw"},
        "ema": {"lengths": [0.05]},
        "device": "auto",
    }
    stage = {"name": "only", "lr": 1e-5, "steps": 60}
    path = write_config(tmp_path, **settings, stages=[{**stage, "batch_size": 2}], precision="bf16")
    done = start(["--config", str(path), "--output", str(tmp_path / "reduced")], launcher(kind), REDUCED)
    assert done.returncode == 0, done.stderr[-3000:]
    path = write_config(tmp_path, **settings, stages=[{**stage, "batch_size": 4}])
    done = start(["--config", str(path), "--device", "cpu", "--output", str(tmp_path / "full")])
    assert done.returncode == 0, done.stderr[-3000:]
    torch.manual_seed(0)
    first = dict(Breaking().named_parameters())
    reduced, full = (load_file(tmp_path / name / "weights.safetensors") for name in ("reduced", "full"))
    moved = torch.cat([(full[name] - first[name]).detach().flatten() for name in first])
    # The masters start as the rounded weights.
    followed = torch.cat([(reduced[name] - first[name].bfloat16().float()).detach().flatten() for name in first])
    assert moved.abs().max() < 2**-10  # half of bfloat16's step at a quarter
    assert (followed - moved).norm() < 0.3 * moved.norm()
