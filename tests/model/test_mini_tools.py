"""The tools that make one mini network out of others, run as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork
from viewtime.weights import read_header, save_weights

TOOLS = Path(__file__).resolve().parents[2] / "tools"
CONFIG = MiniConfig(size=16, stem_widths=(8, 16), width=32, depth=2, head_dim=16)


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, TOOLS / tool, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two networks of one shape."""
    paths = [tmp_path / name for name in ("before.safetensors", "after.safetensors")]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        state = MiniNetwork(CONFIG).state_dict()
        save_weights(path, state, {"model": {"name": "mini", "config": asdict(CONFIG)}, "of": seed})
    return paths


def test_a_mean_has_the_share_of_the_second_file_and_its_metadata(files: list[Path], tmp_path: Path):
    out = tmp_path / "mean.safetensors"
    assert run("average_mini.py", *files, 0.75, out).returncode == 0
    before, after, mean = map(load_file, [*files, out])
    assert mean.keys() == before.keys()
    for name, tensor in mean.items():
        assert torch.allclose(tensor, 0.25 * before[name] + 0.75 * after[name], atol=1e-6)
    assert read_header(out)[0]["of"] == 1


def test_a_deeper_file_names_its_depth_and_does_not_mix_with_the_shallow_one(files: list[Path], tmp_path: Path):
    out = tmp_path / "deeper.safetensors"
    assert run("deepen_mini.py", files[0], 4, out).returncode == 0
    header, shapes = read_header(out)
    assert header["model"]["config"]["depth"] == 4
    assert any(name.startswith("layers.3.") for name in shapes)
    refused = run("average_mini.py", files[0], out, 0.5, tmp_path / "mean.safetensors")
    assert refused.returncode == 1
    assert "missing" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "mean.safetensors").exists()
