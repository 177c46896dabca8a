"""Training from shards: a damaged sample is left out by name, and a set of nothing else stops the run."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from viewtime.cameras import regular_orbit
from viewtime.data.stored import schema
from viewtime.data.stored.shards import write_shard
from viewtime.errors import UserError
from viewtime.train.loop import Trainer

from .conftest import losses


def latents(value: float, frames: int = 2, height: int = 64) -> dict[str, bytes]:
    """A sample of 3 views of latents."""
    shape = [3, frames, 4, height // 8, 8]
    record = schema.SampleRecord(
        schema.FORMAT_VERSION, "fox/walk", "test", 3, frames, height, 64, False, 8.0,
        schema.pack_cameras(regular_orbit(3, frames)), [0.1 * i for i in range(frames)], {schema.LATENTS: shape}, {},
    )  # fmt: skip
    file = io.BytesIO()
    np.save(file, np.full(shape, value, np.float16))
    return {schema.META: json.dumps(record.to_json()).encode(), schema.LATENTS: file.getvalue()}


def settings(folder: Path) -> dict:
    return {
        "model": {"name": "tests.train.breaking:Breaking"},
        "data": {
            "factory": "grids",
            "options": {"shards": str(folder), "kind": "latents", "views": 3, "frames": 2, "workers": 0},
        },
        "ema": {"lengths": []},
    }


def test_a_damaged_sample_is_named_by_shard_and_member(tiny, tmp_path, caplog):
    write_shard(tmp_path / "shard-000000.tar", [(f"s{i}", latents(np.nan if i == 2 else 0.1 * i)) for i in range(6)])
    with caplog.at_level(logging.WARNING):
        assert Trainer(tiny(**settings(tmp_path))).run().step == 8
    assert "shard-000000.tar, sample s2: latents.npy" in caplog.text


def test_nothing_but_damaged_samples_stops_the_run(tiny, tmp_path):
    write_shard(tmp_path / "shard-000000.tar", [(f"s{i}", latents(np.nan)) for i in range(4)])
    with pytest.raises(UserError, match=r"shard-000000\.tar, sample s\d: latents\.npy"):
        Trainer(tiny(**settings(tmp_path))).run()


def test_training_goes_through_buckets_and_resumes_in_the_same_ones(tiny, tmp_path, monkeypatch):
    members = [(f"s{i}", latents(0.1 * i, *((2, 64) if i % 2 else (4, 32)))) for i in range(6)]
    write_shard(tmp_path / "shard-000000.tar", members)
    changes = settings(tmp_path)
    changes["data"]["options"]["buckets"] = [[2, 64, 64], [4, 32, 64]]
    shapes, reading = [], Trainer.next_batch

    def watched(trainer, *arguments):
        batch = reading(trainer, *arguments)
        shapes.append(tuple(batch.x0.shape[1:]))
        return batch

    monkeypatch.setattr(Trainer, "next_batch", watched)
    Trainer(tiny(**changes)).run()
    whole, shapes[:] = list(shapes), []
    assert set(whole) == {(3, 2, 4, 8, 8), (3, 4, 4, 4, 8)}
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000008")
    AcceleratorState._reset_state(True)
    before = losses(tmp_path / "run")
    Trainer(tiny(**changes)).run()
    assert shapes == whole[4:]
    assert losses(tmp_path / "run") == before
