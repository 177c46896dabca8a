"""Sampling through the common plan, runner and command: windows of 8 x 8, autoregressive beyond, from two videos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.cli import main
from viewtime.configs.load import load_preset
from viewtime.configs.sample import PlanOptions, PreprocessOptions, SamplerOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.denoiser import NetworkDenoiser
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.four_real_model import FourRealModel
from viewtime.sample.pipeline import Pipeline
from viewtime.video import write_video
from viewtime.weights import save_weights

WHOLE = PreprocessOptions(background="keep", crop="none")


def small_denoiser() -> NetworkDenoiser:
    torch.manual_seed(0)
    denoiser = build_denoiser("4real", load_preset("4real-debug")["model"]["config"])
    stir(denoiser.network.base)
    return denoiser.eval().requires_grad_(False)


def clip(frames: int, seed: int) -> np.ndarray:
    """Smooth random frames, uint8 [F, 32, 32, 3]."""
    coarse = torch.rand(1, 3, frames, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (frames, 32, 32), mode="trilinear")[0]
    return (fine.permute(1, 2, 3, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    denoiser = small_denoiser()
    record = {"model": {"name": "4real", "config": resolved_config(denoiser.network)}}
    return save_weights(tmp_path_factory.mktemp("w") / "grid.safetensors", denoiser.network.state_dict(), record)


def test_command_completes_a_grid_from_two_videos(weights, tmp_path):
    """10 frames and 9 rows: more than one window along either axis."""
    video, orbit = clip(10, 1), clip(9, 2)
    orbit[0] = video[0]
    write_video(tmp_path / "fixed.mp4", video, 8)
    write_video(tmp_path / "orbit.mp4", orbit, 8)
    arguments = ["--video", str(tmp_path / "fixed.mp4"), "--freeze-video", str(tmp_path / "orbit.mp4"),
                 "--weights", str(weights), "--device", "cpu", "--sampler.steps", "2", "--out", str(tmp_path / "out"),
                 "--preset", "sample-4real"]  # fmt: skip
    assert main(["sample", *arguments]) == 0
    grid = FrameGrid.load(next((tmp_path / "out").rglob("grid.json")).parent)
    assert grid.shape == (9, 10, 3, 16, 16)
    assert grid.known[0].all()
    assert grid.known[:, 0].all()
    assert grid.known.sum() == 9 + 10 - 1
    shrunk = torch.nn.functional.interpolate(torch.from_numpy(orbit).permute(0, 3, 1, 2) / 255, (16, 16), mode="area")
    # Column 0 is the freeze-time video up to compression and resampling.
    assert (grid.frames[1:, 0] - shrunk[1:]).abs().mean() < 0.06
    assert (grid.frames[1:, 1:] - grid.frames[1:, :1]).abs().mean() > 0.06


def test_windows_slide_and_extend_in_both_directions():
    model = FourRealModel(small_denoiser())
    references = torch.rand(11, 4, 16, 16)
    references[:, 3] = 1
    job = Pipeline(model).prepare(
        clip(20, 3), preprocess=WHOLE, views=11, reference_views=references, plan=PlanOptions(overlap=2)
    )
    windows = job.plan.windows
    assert {len(window.views) for window in windows} == {8}
    assert {len(window.frames) for window in windows} == {8}
    assert {window.views[0] for window in windows} == {0, 4}
    assert {window.frames[0] for window in windows} == {0, 6, 12}
    last = windows[-1]
    assert any(cell in last.conditions for cell in ((last.views[0], last.frames[-1]), (last.views[-1], last.frames[0])))


def test_a_seed_means_one_grid_whatever_the_batch():
    pipeline = Pipeline(FourRealModel(small_denoiser()))
    references = torch.rand(9, 4, 16, 16)
    references[:, 3] = 1
    grids = [
        pipeline(
            clip(9, 4), views=9, reference_views=references, preprocess=WHOLE, sampler=SamplerOptions(steps=2),
            batch_windows=batch, generator=torch.Generator().manual_seed(seed),
        ).frames
        for batch, seed in ((1, 0), (3, 0), (1, 1))
    ]  # fmt: skip
    torch.testing.assert_close(grids[0], grids[1], rtol=0, atol=1e-4)
    assert (grids[0] - grids[2])[1:, 1:].abs().max() > 1e-2
    assert torch.equal(grids[0][1:, 0], references[:, :3])


def test_the_freeze_video_is_asked_for(weights, tmp_path, capsys):
    write_video(tmp_path / "fixed.mp4", clip(4, 1), 8)
    arguments = ["--video", str(tmp_path / "fixed.mp4"), "--weights", str(weights), "--device", "cpu",
                 "--out", str(tmp_path / "out"), "--preset", "sample-4real"]  # fmt: skip
    assert main(["sample", *arguments]) == 1
    assert "--freeze-video" in capsys.readouterr().err


def test_too_many_views_for_the_freeze_video_are_named(weights, tmp_path, capsys):
    write_video(tmp_path / "fixed.mp4", clip(4, 1), 8)
    arguments = ["--video", str(tmp_path / "fixed.mp4"), "--freeze-video", str(tmp_path / "fixed.mp4"),
                 "--weights", str(weights), "--device", "cpu", "--views", "4", "--out", str(tmp_path / "out"),
                 "--preset", "sample-4real"]  # fmt: skip
    assert main(["sample", *arguments]) == 1
    assert "has 4 frames" in capsys.readouterr().err


def test_a_prompt_goes_through_the_encoder_that_is_given():
    torch.manual_seed(0)
    base = {**load_preset("4real-debug")["model"]["config"]["base"], "text_width": 6}
    denoiser = build_denoiser("4real", {"base": base})
    stir(denoiser.network.base)
    denoiser.eval().requires_grad_(False)

    class Lengths:
        width = 6

        def __call__(self, prompts):
            return torch.tensor([[[float(len(prompt))] * 6] for prompt in prompts]) * torch.arange(6)

    references = torch.rand(2, 3, 16, 16)
    grids = [
        Pipeline(model)(
            clip(3, 4), views=2, reference_views=references, preprocess=WHOLE, sampler=SamplerOptions(steps=2)
        ).frames
        for model in (
            FourRealModel(denoiser),
            FourRealModel(denoiser, prompt="", encoder=Lengths()),
            FourRealModel(denoiser, prompt="a fox", encoder=Lengths()),
        )
    ]
    torch.testing.assert_close(grids[0], grids[1], rtol=0, atol=1e-4)
    assert (grids[0] - grids[2]).abs().max() > 1e-3
    with pytest.raises(UserError, match="text encoder"):
        FourRealModel(denoiser, prompt="a fox")
