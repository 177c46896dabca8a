"""A tiny run on synthetic grids, as a mapping that tests change, and the starter as a user types it."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.state import AcceleratorState

from viewtime.configs.load import build
from viewtime.configs.schema.train import TrainConfig
from viewtime.files import read_jsonl

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "model": {
        "name": "mini",
        "config": {"size": 16, "width": 32, "depth": 2, "head_dim": 16, "stem_widths": [8, 16]},
    },
    "data": {"factory": "synthetic", "options": {"size": 16, "views": 3, "frames": 2}},
    "stages": [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 8}],
    "schedule": {"warmup_steps": 2},
    "checkpoint": {"every_steps": 4},
    "tracking": {"log_every": 1},
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps one state per process; each test may want another precision."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def losses(folder: Path) -> dict[int, float]:
    """Step -> loss of a run."""
    return {r["step"]: r["loss"] for r in read_jsonl(folder / "metrics.jsonl") if "loss" in r}


@pytest.fixture
def tiny(tmp_path: Path):
    """Function: changes -> TrainConfig; nested keys as "a.b"."""

    def make(**changes: Any) -> TrainConfig:
        mapping = copy.deepcopy(TINY) | {"output": str(tmp_path / "run")}
        for key, value in changes.items():
            target = mapping
            *path, last = key.split("__")
            for part in path:
                target = target.setdefault(part, {})
            target[last] = value
        return build(TrainConfig, mapping)

    return make


def write_config(folder: Path, **changes: Any) -> Path:
    """The tiny run as a YAML file; top-level keys are replaced."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(TINY) | changes))
    return path


def environment(**extra: str) -> dict[str, str]:
    """The environment of a launched run: one thread, quiet DeepSpeed, the interpreter's tools on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PATH": path, **extra}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_worker(module: str, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess:
    """Run `python -m module ARGUMENTS` to its good end, from 2 processes on by torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(free_port())]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", module, *arguments]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def start(
    arguments: list[str], launcher: list[str] | None = None, script: str = "train/train.py", **extra: str
) -> subprocess.CompletedProcess:
    """Run `train/train.py ARGUMENTS`, or another script, to its end."""
    command = [*(launcher or [sys.executable]), str(ROOT / script), *arguments]
    return subprocess.run(command, env=environment(**extra), capture_output=True, text=True, timeout=580, check=False)
