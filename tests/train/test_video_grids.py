"""SV4D's debug twin through the loop: shapes, guidance dropout, and weights that load as a published model's do."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.model.published.presets import load_model_config
from viewtime.model.video_model import load_video_model
from viewtime.train.loop import Trainer
from viewtime.train.streams.synthetic import SyntheticStream
from viewtime.train.video_grids import video_conditions, video_grid_denoiser


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
    with pytest.raises(UserError, match="makes no grids"):
        video_grid_denoiser("svd-xt-debug")
