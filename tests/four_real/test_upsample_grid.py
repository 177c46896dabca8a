"""Enlarging whole grids: noise per cell, windows that agree, and the command."""

from __future__ import annotations

import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.grid import FrameGrid
from viewtime.model.four_real.config import BaseConfig, UpsamplerConfig
from viewtime.model.four_real.upsampler import enlarge
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.noise import cell_noise
from viewtime.sample.upsample import main, upsample
from viewtime.weights import save_weights

BASE = {
    "patch": 8,
    "width": 32,
    "depth": 2,
    "head_dim": 16,
    "text_width": 0,
    "reference_height": 16,
    "extra_channels": 3,
}


def denoiser(stirred: bool):
    torch.manual_seed(0)
    model = build_denoiser("4real-upsampler", {"base": BASE, "factor": 4}).eval().requires_grad_(False)
    if stirred:
        stir(model.network.base)
    return model


class Recorder:
    """A denoiser that keeps what it was called with and answers with a mean over the window."""

    schedule_kind, in_channels = "flow", 3

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, x, sigma, cond):
        self.calls.append((x.clone(), cond["small"].clone()))
        return torch.ones_like(x) * cond["small"].mean()


def test_an_untrained_upsampler_enlarges_bilinearly():
    small = torch.rand(2, 3, 3, 4, 4)
    large = upsample(small, denoiser(stirred=False), 4, steps=3)
    torch.testing.assert_close(large, enlarge(small[None], 4)[0].clamp(0, 1), rtol=0, atol=1e-5)


def test_noise_belongs_to_cells_and_windows_share_one_state():
    model, small = Recorder(), torch.rand(5, 4, 3, 2, 2)
    large = upsample(small, model, 2, seed=7, steps=1, window=3, overlap=1)
    assert len(model.calls) == 4
    x, condition = model.calls[3]  # views 2..4, frames 1..3
    assert torch.equal(x[0], cell_noise(7, [2, 3, 4], [1, 2, 3], (3, 4, 4)))
    torch.testing.assert_close(condition[0], small[2:5, 1:4] * 2 - 1)
    # Cell (2, 1) lies in all four windows: with one step the result is the mean of their answers.
    answers = [small[v : v + 3, f : f + 3].mean() for v in (0, 2) for f in (0, 1)]
    torch.testing.assert_close(large[2, 1], torch.stack(answers).mean().expand(3, 4, 4))
    torch.testing.assert_close(large[0, 0], answers[0].expand(3, 4, 4))


def test_same_seed_same_grid_other_seed_other_grid():
    small = torch.rand(2, 2, 3, 4, 4)
    model = denoiser(stirred=True)
    first, again, other = (upsample(small, model, 4, seed=seed, steps=2) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


def test_command_writes_a_larger_grid(tmp_path, capsys):
    model = denoiser(stirred=True)
    record = {"model": {"name": "4real-upsampler", "config": resolved_config(model.network)}}
    weights = save_weights(tmp_path / "up.safetensors", model.network.state_dict(), record)
    grid = FrameGrid(torch.rand(2, 2, 3, 8, 8), torch.zeros(2, 2, dtype=torch.bool))
    grid.save(tmp_path / "small", lossless=True)
    assert main([str(tmp_path / "small"), str(tmp_path / "large"), "--weights", str(weights), "--steps", "2"]) == 0
    large = FrameGrid.load(tmp_path / "large")
    assert large.shape == (2, 2, 3, 32, 32)
    assert large.provenance["upsampled"]["factor"] == 4
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"model": {"name": "mini"}})
    assert main([str(tmp_path / "small"), str(tmp_path / "x"), "--weights", str(tmp_path / "other.safetensors")]) == 1
    assert "no 4real-upsampler" in capsys.readouterr().err


def test_config_defaults_are_the_papers_sizes():
    config = UpsamplerConfig()
    assert config.factor == 4
    assert config.base.extra_channels == config.base.channels == 3
    assert isinstance(config.base, BaseConfig)
    with pytest.raises(ValueError, match="factor 1"):
        UpsamplerConfig(factor=1)
