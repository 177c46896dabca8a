"""Sampling through the common plan, runner and command: windows of 8 x 8, autoregressive beyond, from two videos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.cli import main
from viewtime.configs.load import load_preset
from viewtime.configs.schema.sample import CameraOptions, PlanOptions, PreprocessOptions, SamplerOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.denoiser import NetworkDenoiser
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.models.four_real_model import FourRealModel
from viewtime.sample.pipeline import Pipeline
from viewtime.video import write_video
from viewtime.weights import save_weights

WHOLE = PreprocessOptions(background="keep", crop="fill")
HEIGHT, WIDTH = load_preset("4real-debug")["model"]["config"]["base"]["frame_size"]


def small_denoiser() -> NetworkDenoiser:
    torch.manual_seed(0)
    denoiser = build_denoiser("4real", load_preset("4real-debug")["model"]["config"])
    stir(denoiser.network.base)
    return denoiser.eval().requires_grad_(False)


def clip(frames: int, seed: int) -> np.ndarray:
    """Smooth random frames of twice the cells' size, uint8 [F, H, W, 3]."""
    coarse = torch.rand(1, 3, frames, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (frames, 2 * HEIGHT, 2 * WIDTH), mode="trilinear")[0]
    return (fine.permute(1, 2, 3, 0).numpy() * 255).astype(np.uint8)


def test_cameras_are_the_users_or_nobodys(weights):
    """They are no part of what is sampled; the freeze-time video's place is not made up."""
    pipeline = Pipeline.from_pretrained(str(weights), device="cpu")
    references = torch.rand(2, 4, HEIGHT, WIDTH)
    options = {"views": 2, "preprocess": WHOLE, "reference_views": references}
    video = clip(3, 1)
    unknown = pipeline.prepare(video, **options)
    assert not unknown.cameras_known
    assert unknown.true_cameras is None
    told = pipeline.prepare(video, **options, camera=CameraOptions(azimuths=(3.0, 6.0)))
    assert told.true_cameras is not None
    assert told.true_cameras.azimuth[:, 0].tolist() == [0.0, 3.0, 6.0]
    distance = pipeline.prepare(video, **options, camera=CameraOptions(distance=3.0))
    assert distance.true_cameras is None


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    denoiser = small_denoiser()
    record = {"model": {"name": "4real", "config": resolved_config(denoiser.network)}}
    return save_weights(tmp_path_factory.mktemp("w") / "grid.safetensors", denoiser.network.state_dict(), record)


def test_command_completes_a_grid_from_two_videos(weights, tmp_path, capsys):
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
    assert grid.shape == (9, 10, 3, HEIGHT, WIDTH)
    assert HEIGHT != WIDTH
    assert grid.cameras is None  # the model sees none, and nobody has told them
    assert main(["reconstruct", str(tmp_path / "out")]) == 1
    assert "the grid has no cameras; sample it with --camera.azimuths" in capsys.readouterr().err
    assert grid.known[0].all()
    assert grid.known[:, 0].all()
    assert grid.known.sum() == 9 + 10 - 1
    shrunk = torch.nn.functional.avg_pool2d(torch.from_numpy(orbit).permute(0, 3, 1, 2) / 255, 2)
    # Column 0 is the freeze-time video up to compression and resampling.
    assert (grid.frames[1:, 0] - shrunk[1:]).abs().mean() < 0.06
    assert (grid.frames[1:, 1:] - grid.frames[1:, :1]).abs().mean() > 0.06


def test_windows_slide_and_extend_in_both_directions():
    model = FourRealModel(small_denoiser())
    references = torch.rand(11, 4, HEIGHT, WIDTH)
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
    references = torch.rand(9, 4, HEIGHT, WIDTH)
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


def write_pair(folder, video: np.ndarray, orbit: np.ndarray) -> list[str]:
    write_video(folder / "fixed.mp4", video, 8)
    write_video(folder / "orbit.mp4", orbit, 8)
    return ["--video", str(folder / "fixed.mp4"), "--freeze-video", str(folder / "orbit.mp4")]


def test_bad_pairs_of_videos_give_one_clear_line(weights, tmp_path, capsys):
    """Not there, another beginning, another shape of picture, a single frame: each is named with what to do."""
    rest = ["--weights", str(weights), "--device", "cpu", "--out", str(tmp_path / "out"), "--preset", "sample-4real"]
    video = clip(3, 1)
    shared, other = np.concatenate([video[:1], clip(2, 2)]), clip(3, 2)
    cases = {
        "orbit.mp4 does not begin with the first frame of": (video, other),
        "their pictures must have one shape": (video, shared[:, :, : 2 * HEIGHT]),
        "has 1 frames; that gives": (video, shared[:1]),
        "1 frames is all given: nothing is left to make": (video[:1], shared),
    }
    for index, (message, pair) in enumerate(cases.items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert main(["sample", *write_pair(folder, *pair), *rest]) == 1
        printed = capsys.readouterr().err.strip()
        assert message in printed
        assert len(printed.splitlines()) == 1
    for missing in ("fixed.mp4", "orbit.mp4"):
        folder = tmp_path / missing.removesuffix(".mp4")
        folder.mkdir()
        arguments = write_pair(folder, video, shared)
        (folder / missing).unlink()
        assert main(["sample", *arguments, *rest]) == 1
        assert f"no such video: {folder / missing}" in capsys.readouterr().err


def test_a_longer_or_shorter_freeze_video_and_another_size_are_fine(weights, tmp_path):
    """Rows and columns need not be equally many, nor the pictures equally large."""
    video = clip(2, 1)
    orbit = np.concatenate([video[:1], clip(3, 2)]).repeat(2, axis=1).repeat(2, axis=2)
    assert main(["sample", *write_pair(tmp_path, video, orbit), "--weights", str(weights), "--device", "cpu",
                 "--sampler.steps", "1", "--out", str(tmp_path / "out"), "--preset", "sample-4real"]) == 0  # fmt: skip
    assert FrameGrid.load(tmp_path / "out" / "grid").shape == (4, 2, 3, HEIGHT, WIDTH)


def test_other_sizes_keep_the_shape_and_halves_are_named():
    model = FourRealModel(small_denoiser())
    model.resize(2 * HEIGHT)
    assert model.traits.cell == (2 * HEIGHT, 2 * WIDTH)
    assert model.latent_shape() == (3, 2 * HEIGHT, 2 * WIDTH)
    with pytest.raises(UserError, match=f"{HEIGHT - 4} × "):
        model.resize(HEIGHT - 4)


def test_half_precision_weights_sample(weights, tmp_path):
    video = clip(2, 1)
    orbit = np.concatenate([video[:1], clip(1, 2)])
    assert main(["sample", *write_pair(tmp_path, video, orbit), "--weights", str(weights), "--device", "cpu",
                 "--sampler.steps", "1", "--dtype", "bfloat16", "--out", str(tmp_path / "out"),
                 "--preset", "sample-4real"]) == 0  # fmt: skip
    assert torch.isfinite(FrameGrid.load(tmp_path / "out" / "grid").frames).all()


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

    references = torch.rand(2, 3, HEIGHT, WIDTH)

    def complete(prompt: str | None, **sampler) -> torch.Tensor:
        model = FourRealModel(denoiser)
        if prompt is not None:
            model.describe(prompt, Lengths())
        options = SamplerOptions(steps=2, **sampler)
        return Pipeline(model)(
            clip(3, 4), views=2, reference_views=references, preprocess=WHOLE, sampler=options
        ).frames

    plain, empty, fox = complete(None), complete(""), complete("a fox")
    torch.testing.assert_close(plain, empty, rtol=0, atol=1e-4)
    assert (plain - fox).abs().max() > 1e-3
    # Guidance at scale 1 is the prompt alone, at 0 no text at all: the unconditional branch keeps the known cells.
    guided = [complete("a fox", guidance="constant", guidance_high=scale) for scale in (1.0, 0.0)]
    torch.testing.assert_close(guided[0], fox, rtol=0, atol=1e-4)
    torch.testing.assert_close(guided[1], plain, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="nothing to guide by"):
        complete(None, guidance="constant")
    with pytest.raises(UserError, match="this 4real takes no text"):
        FourRealModel(small_denoiser()).describe("a fox", Lengths())
