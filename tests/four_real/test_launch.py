"""The one command of a run at the paper's size: what it starts, in which order, and that every part of it parses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "configs" / "launch" / "4real.sh"


def started(tmp_path: Path, *arguments: str, **environment: str) -> list[list[str]]:
    """Arguments of every Python process that the script starts, in order."""
    log, python = tmp_path / "log.jsonl", tmp_path / "python"
    python.write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$@" | "{os.environ.get("PYTHON", "python3")}" -c '
        f"'import json,sys; print(json.dumps(sys.stdin.read().splitlines()))' >> {log}\n"
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHON": str(python), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


def config_of(arguments: list[str]) -> TrainConfig:
    start = arguments.index("train/train.py") + 1
    return parse_overrides(TrainConfig, arguments[start:], "train.py")


def test_three_trainings_with_the_assembly_between(tmp_path):
    base, assemble, grid, upsampler = started(tmp_path, "V", "A", "--seed", "7", TEXT_ENCODER="clip.safetensors")
    for run in (base, grid, upsampler):
        assert run[:4] == ["-m", "accelerate.commands.launch", "--config_file", "configs/launch/gpu8-ddp.yaml"]
        assert config_of(run).seed == 7
        assert not config_of(run).dry_run
    assert assemble[1:] == [
        "viewtime.model.four_real.assemble", "runs/4real-base/weights.safetensors", "runs/4real/start.safetensors",
    ]  # fmt: skip
    first, second, third = config_of(base), config_of(grid), config_of(upsampler)
    assert (first.output, second.output) == ("runs/4real-base", "runs/4real")
    assert second.model.weights == assemble[3]
    assert (first.data.options["videos"], first.data.options["assets"]) == ("V", "A")
    assert first.data.options["text"]["weights"] == second.data.options["text"]["weights"] == "clip.safetensors"
    assert third.data.options["videos"] == "V"
    # 20k steps of pseudo-4D videos at both sizes, then 3k of animated assets (section 4.1).
    pseudo, last = second.stages[:-1], second.stages[-1]
    assert sum(stage.steps or 0 for stage in pseudo) == 20000
    assert (last.steps, last.data["videos"], last.data["assets"]) == (3000, "", "A")


def test_a_dry_run_needs_neither_a_gpu_nor_the_base(tmp_path):
    runs = started(tmp_path, "V", "A", "--dry-run")
    assert len(runs) == 3
    for run in runs:
        config = config_of(run)
        assert run[0] == "train/train.py"
        assert (config.dry_run, config.device, config.model.weights) == (True, "cpu", None)


def test_without_folders_it_says_how_to_call_it(tmp_path):
    done = subprocess.run(["bash", str(SCRIPT), "V"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "VIDEOS ASSETS" in done.stderr
