"""SV4D's debug twin through the loop: shapes, guidance dropout, and weights that load as a published model's do."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.model.published.presets import build_model_config, load_model_config
from viewtime.model.video_model import load_video_model
from viewtime.sample.models.video_grid_model import published_traits
from viewtime.train.loop import Trainer
from viewtime.train.streams.synthetic import SyntheticStream
from viewtime.train.video_grids import video_conditions, video_grid_denoiser, video_grid_stream
from viewtime.weights import save_weights


class LatentStream(SyntheticStream):
    """Four-channel grids taken as latents, with CLIP embeddings."""

    def batch(self, indices):
        batch = super().batch(indices)
        shape = batch["x0"].shape[:3]
        batch["cond"]["clip"] = torch.ones(*shape, 32) * batch["cond"]["known"][..., None]
        return batch


def latent_stream(options, *, batch_size, seed, rank, world):
    return LatentStream(batch_size, seed, rank, world, **options)


@pytest.fixture
def settings():
    yield {
        "model": {"name": "viewtime.train.video_grids:video_grid_denoiser", "config": {"preset": "sv4d-debug"}},
        "data": {
            "factory": "video-grids",
            "options": {
                "preset": "sv4d-debug",
                "inner": f"{__name__}:latent_stream",
                "size": 8,
                "views": 3,
                "fixed": 2,
            },
        },
        "loss": {"kind": "edm", "weighting": "edm", "sigma_data": 1.0, "known_cells": "ignored"},
        "conditioning": {"dropout": {"concat+image_tokens+frame_vector": 0.2, "reference_views": 0.2}},
        "stages": [{"name": "static", "lr": 3e-4, "batch_size": 2, "steps": 24}],
    }
    AcceleratorState._reset_state(True)


def test_sv4d_debug_learns_a_fixed_batch_and_its_weights_load(tiny, tmp_path, settings):
    AcceleratorState._reset_state(True)
    trainer = Trainer(tiny(**settings))
    trainer.run()
    found = [record["loss"] for record in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert sum(found[-8:]) < 0.8 * sum(found[:8])
    loaded = load_video_model(tmp_path / "run" / "weights.safetensors", parts=("network",))
    average = trainer.ema.of(0.05)
    trained = {f"inner.network.{name}": tensor for name, tensor in loaded.network.state_dict().items()}
    assert average.keys() <= trained.keys()
    assert all(torch.equal(trained[name], tensor) for name, tensor in average.items())


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    """Weights of a fresh debug twin, as a run exports them."""
    model = video_grid_denoiser("sv4d-debug")
    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    return str(
        save_weights(tmp_path_factory.mktemp("start") / "w.safetensors", tensors, {"model": model.exported_model})
    )


@pytest.mark.parametrize("told", ["none", "clip"])
def test_table_7s_networks_begin_from_sv4ds_start_and_need_no_reference_views(start, told: str):
    original = load_video_model(start, parts=("network",)).network.state_dict()
    other = video_grid_denoiser("sv4d-debug", start, frame_context=told)  # type: ignore[arg-type]
    assert other.exported_model["network"]["frame_context"] == told
    differ = [name for name, value in other.network.state_dict().items() if value.shape != original[name].shape]
    assert all("frame.cross_attention" in name for name in differ)
    assert bool(differ) == (told == "clip")
    kept = {name: value for name, value in other.network.state_dict().items() if name not in differ}
    assert all(torch.equal(value, original[name]) for name, value in kept.items())
    found = build_model_config(other.exported_model, "the weights' metadata")
    assert found.network.frame_context == told
    assert not published_traits(found).needs_reference
    assert published_traits(load_model_config("sv4d-debug")).needs_reference


def test_conditions_are_the_input_view_and_the_first_frames():
    config = load_model_config("sv4d-debug")
    batch = LatentStream(1, 0, 0, 1, views=3, frames=2, channels=4, size=8).batch([0])
    x0, cond = video_conditions(batch["x0"], batch["cond"], config)
    assert torch.equal(x0, batch["x0"][:, 1:])
    assert torch.allclose(cond["concat"][0, 0] * config.vae.scale, batch["x0"][0, 0])
    assert torch.allclose(cond["reference_views"][0] * config.vae.scale, batch["x0"][0, 1:, 0])
    assert cond["frame_vector"].shape[-1] + cond["camera_vector"].shape[-1] == config.vector_dim
    with pytest.raises(UserError, match="no CLIP embeddings"):
        video_conditions(batch["x0"], {k: v for k, v in batch["cond"].items() if k != "clip"}, config)
    with pytest.raises(UserError, match=r"model.config.frame_context"):
        video_grid_denoiser("sv4d-debug", frame_context="clap")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="makes no grids"):
        video_grid_denoiser("svd-xt-debug")


def test_the_reference_lies_before_the_window_or_in_it_and_a_resumed_stream_goes_on():
    """Window of 3 of 4 frames: reference frame 0, the window frames 0-2 or 1-3; both places come."""
    options = {"preset": "sv4d-debug", "inner": f"{__name__}:latent_stream", "size": 8, "views": 3, "frames": 3}
    settings = {"batch_size": 1, "seed": 3, "rank": 0, "world": 1}
    scale = load_model_config("sv4d-debug").vae.scale
    stream = video_grid_stream({**options, "outside_reference": 0.5}, **settings)
    whole = latent_stream({"size": 8, "views": 3, "frames": 4}, **settings)
    places, batches = [], []
    for batch, grid, _ in zip(stream, whole, range(12)):
        target, cond = batch["x0"], batch["cond"]
        assert target.shape[:3] == (1, 2, 3)
        inside = torch.equal(target, grid["x0"][:, 1:, :3])
        assert inside or torch.equal(target, grid["x0"][:, 1:, 1:])
        assert torch.allclose(cond["reference_views"] * scale, grid["x0"][:, 1:, 0])
        shown = grid["x0"][:, 0, slice(0, 3) if inside else slice(1, 4)]
        assert torch.allclose(cond["concat"][:, 0] * scale, shown)
        places.append(inside)
        batches.append(target)
        if len(batches) == 6:
            state = stream.state_dict()
    assert 0 < sum(places) < len(places)
    resumed = video_grid_stream({**options, "outside_reference": 0.5}, **settings)
    resumed.load_state_dict(state)
    assert torch.equal(next(iter(resumed))["x0"], batches[6])
    with pytest.raises(UserError, match="outside_reference is 2; it is a share"):
        video_grid_stream({**options, "outside_reference": 2}, **settings)
