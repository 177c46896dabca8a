"""The tool that puts mini into the package, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork
from viewtime.weights import read_header, save_weights

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ship_mini.py"


def weights(path: Path, seed: int, depth: int = 2) -> Path:
    config = MiniConfig(size=16, stem_widths=(8, 16), width=32, depth=depth, head_dim=16)
    torch.manual_seed(seed)
    record = {"model": {"name": "mini", "config": asdict(config)}, "of": seed}
    return save_weights(path, MiniNetwork(config).state_dict(), record)


def ship(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, TOOL, *arguments, "--steps", 5, "--shift", 0.15, "--plan", "sv4d", "--plan-frames", 4]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def test_the_mean_ships_in_half_precision_with_the_way_to_sample_it(tmp_path: Path):
    paths = [weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    out = tmp_path / "out.safetensors"
    result = ship(*paths, "--out", out)
    assert result.returncode == 0, result.stderr
    one, other, mean = map(load_file, [*paths, out])
    assert mean.keys() == one.keys()
    for name, tensor in mean.items():
        assert torch.equal(tensor, ((one[name] + other[name]) / 2).half())
    record = read_header(out)[0]
    assert record["of"] == 0
    assert (record["trained"]["plan"], record["trained"]["plan_frames"], record["trained"]["steps"]) == ("sv4d", 4, 5)
    assert (record["trained"]["alpha_range"], record["model"]["config"]["frustum_rays"]) == ([0.0, 1.0], 0)


def test_larger_cells_and_other_alpha_than_in_training(tmp_path: Path):
    path, out = weights(tmp_path / "0.safetensors", 0), tmp_path / "out.safetensors"
    assert ship(path, "--out", out, "--size", 32, "--alpha-range", 0.3, 0.4).returncode == 0
    record = read_header(out)[0]
    config = MiniConfig(**record["model"]["config"])
    assert (config.size, config.frustum_size, config.frustum_rays) == (32, 16, 32)
    assert record["trained"]["alpha_range"] == [0.3, 0.4]
    result = ship(path, "--out", out, "--size", 40)
    assert result.returncode == 1
    assert "frustum_size 16 must be a multiple of 8 that divides the size (40)" in result.stderr


def test_networks_of_another_shape_or_no_file_are_refused_in_one_line(tmp_path: Path):
    out = tmp_path / "out.safetensors"
    shallow, deep = (weights(tmp_path / f"depth{depth}.safetensors", 0, depth) for depth in (2, 4))
    for second in (deep, tmp_path / "nowhere.safetensors"):
        for pair in ((shallow, second), (second, shallow)):
            result = ship(*pair, "--out", out)
            assert result.returncode == 1
            assert result.stderr.startswith("ship_mini.py: ")
            assert "Traceback" not in result.stderr
    assert not out.exists()


def test_what_a_file_has_not_yet_grown_counts_as_zeros(tmp_path: Path):
    plain = MiniConfig(size=16, depth=0, frustum_width=8)
    paths = []
    for seed, config in ((0, replace(plain, frustum_readouts=True)), (1, plain)):
        torch.manual_seed(seed)
        network = MiniNetwork(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        record = {"model": {"name": "mini", "config": asdict(config)}}
        paths.append(save_weights(tmp_path / f"{seed}.safetensors", network.state_dict(), record))
    out = tmp_path / "out.safetensors"
    result = ship(*paths, "--own-hue", "--out", out)
    assert result.returncode == 0, result.stderr
    first, other, mean = map(load_file, [*paths, out])
    for part in ("read_quarter", "read_deep"):
        name = f"frustum.network.{part}.weight"
        assert torch.equal(mean[name], (first[name] / 2).half())
    name = "frustum.network.enter.weight"
    assert torch.equal(mean[name], ((first[name] + other[name]) / 2).half())
    shape = MiniConfig(**read_header(out)[0]["model"]["config"])
    assert (shape.frustum_readouts, shape.frustum_own_hue) == (True, True)
    result = ship(*reversed(paths), "--out", out)
    assert result.returncode == 1  # the first file says what the network is
