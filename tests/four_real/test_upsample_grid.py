"""Enlarging whole grids: noise per cell, windows that agree, and the command."""

from __future__ import annotations

import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.cli import main as main_cli
from viewtime.configs.load import load_preset
from viewtime.configs.schema.sample import UpsampleOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.model.four_real.config import BaseConfig, UpsamplerConfig
from viewtime.model.four_real.upsampler import enlarge
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.run.upsample import main, upsample
from viewtime.sample.solver.noise import cell_noise
from viewtime.weights import save_weights

BASE = {
    "patch": 8,
    "width": 32,
    "depth": 2,
    "head_dim": 16,
    "text_width": 0,
    "frame_size": (16, 24),
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
    large = upsample(small, denoiser(stirred=False), 4, options=UpsampleOptions(steps=3))
    torch.testing.assert_close(large, enlarge(small[None], 4)[0].clamp(0, 1), rtol=0, atol=1e-5)


def test_noise_belongs_to_cells_and_windows_share_one_state():
    model, small = Recorder(), torch.rand(5, 4, 3, 2, 2)
    large = upsample(small, model, 2, seed=7, options=UpsampleOptions(steps=1, window=3, overlap=1))
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
    first, again, other = (upsample(small, model, 4, seed=seed, options=UpsampleOptions(steps=2)) for seed in (0, 0, 1))
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


def test_windows_that_do_not_advance_are_named():
    with pytest.raises(UserError, match="overlap 2; at least"):
        upsample(torch.rand(2, 2, 3, 4, 4), Recorder(), 2, options=UpsampleOptions(window=2, overlap=2))  # type: ignore[arg-type]


def test_sampling_goes_on_into_the_upsampler(tmp_path, capsys):
    """`--upsampler`: a second pass in windows after the grid; outputs are large, what was sampled is kept beside."""
    torch.manual_seed(0)
    grid_model = build_denoiser("4real", load_preset("4real-debug")["model"]["config"])
    stir(grid_model.network.base)  # type: ignore[union-attr, arg-type]
    for name, model in (("4real", grid_model), ("4real-upsampler", denoiser(stirred=True))):
        record = {"model": {"name": name, "config": resolved_config(model.network)}}
        save_weights(tmp_path / f"{name}.safetensors", model.network.state_dict(), record)
    height, width = grid_model.network.config.base.frame_size  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(0)
    video, orbit = (
        torch.randint(255, (count, 2 * height, 2 * width, 3), generator=generator).byte().numpy() for count in (3, 4)
    )
    orbit[0] = video[0]
    for name, frames in (("fixed", video), ("orbit", orbit)):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(frames):
            write_image(tmp_path / name / f"{index}.png", frame)
    common = ["--video", str(tmp_path / "fixed"), "--freeze-video", str(tmp_path / "orbit"), "--device", "cpu",
              "--sampler.steps", "2", "--preset", "sample-4real", "--out", str(tmp_path / "out")]  # fmt: skip
    grid_weights, upsampler = (str(tmp_path / f"{name}.safetensors") for name in ("4real", "4real-upsampler"))
    options = ["--weights", grid_weights, "--upsample.steps", "2", "--upsample.window", "3", "--upsample.overlap", "1"]
    assert main_cli(["sample", *common, *options, "--upsampler", upsampler, "--save", "png"]) == 0
    small, large = (FrameGrid.load(tmp_path / "out" / name) for name in ("grid_small", "grid_png"))
    assert small.shape == (4, 3, 3, height, width)
    assert large.shape == (4, 3, 3, 4 * height, 4 * width)
    assert large.provenance["upsampled"]["factor"] == 4
    expected = upsample(small.frames, denoiser(stirred=True), 4, options=UpsampleOptions(steps=2, window=3, overlap=1))
    # Eight-bit files twice: the small grid that was read again, and the large one.
    assert (large.frames - expected).abs().max() < 0.05
    assert (tmp_path / "out" / "grid" / "view_000.mp4").is_file()
    capsys.readouterr()
    assert main_cli(["sample", *common, "--weights", grid_weights, "--upsampler", grid_weights]) == 1
    assert "no 4real-upsampler" in capsys.readouterr().err
    assert main_cli(["sample", *common[:2], "--weights", "mini", "--device", "cpu", "--upsampler", upsampler,
                     "--preprocess.background", "keep", "--out", str(tmp_path / "mini")]) == 1  # fmt: skip
    assert "mini makes RGBA" in capsys.readouterr().err


def test_config_defaults_are_the_papers_sizes():
    config = UpsamplerConfig()
    assert config.factor == 4
    assert config.base.extra_channels == config.base.channels == 3
    assert isinstance(config.base, BaseConfig)
    with pytest.raises(ValueError, match="factor 1"):
        UpsamplerConfig(factor=1)
