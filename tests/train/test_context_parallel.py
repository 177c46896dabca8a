"""Two processes on each grid: the run of one process, which goes on from their checkpoint; refusals; memory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.train.cost import StepCost, pretended_group, step_cost
from viewtime.train.dry_run import describe
from viewtime.train.loop import Trainer, open_stream
from viewtime.train.streams.batches import Batch, read_batch

from .conftest import losses, write_config
from .stirred_grid_model import stirred
from .test_distributed import apart, train

BASE = {"patch": 4, "width": 32, "depth": 2, "head_dim": 16, "mlp_ratio": 2, "text_width": 0, "frame_size": [8, 16]}
DATA = {"size": 8, "width": 16, "views": 4, "frames": 2, "channels": 3}
STUDENT = {"steps": 2, "teacher": {"name": "euler", "steps": 4}}
FOUR_REAL: dict[str, Any] = {
    "model": {"name": "tests.train.stirred_grid_model:stirred", "config": {"base": BASE}},
    "data": {"factory": "synthetic", "options": DATA},
    "validation": {"every_steps": 4, "data": {"fixed": 4}, "sample_steps": 2, "sample_grids": 1},
}


def video_grids(preset: str, views: int = 5) -> dict[str, Any]:
    """A run of SV4D's family on latent grids, whose first view is the input."""
    stream = {"preset": preset, "inner": "tests.train.test_video_grids:latent_stream"}
    return {
        "model": {"name": "viewtime.train.video_grids:video_grid_denoiser", "config": {"preset": preset}},
        "data": {"factory": "video-grids", "options": {**stream, "size": 8, "views": views, "frames": 4}},
        "loss": {"kind": "edm", "weighting": "edm", "sigma_data": 1.0, "known_cells": "ignored"},
        "conditioning": {"dropout": {"concat+image_tokens+frame_vector": 0.2, "reference_views": 0.2}},
        "validation": {"every_steps": 4, "data": {"fixed": 4}},
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        pytest.param(FOUR_REAL, ("ddp", "zero2", "zero3", "fsdp2"), id="4real"),
        pytest.param(FOUR_REAL | {"student": STUDENT}, ("ddp",), id="4real-student"),
        pytest.param(video_grids("sv4d-debug"), ("ddp",), id="sv4d"),
        pytest.param(video_grids("sv4d2-debug"), ("ddp", "zero2", "zero3", "fsdp2"), id="sv4d2"),
    ],
)
def test_two_processes_on_each_grid_train_as_one(tmp_path, changes: dict, kinds: tuple[str, ...]):
    """With accumulated gradients: losses, validation and averages within 1e-5. One process goes on from step 4."""
    config = write_config(tmp_path, optimizer={"eps": 1e-5, "accumulate": 2}, device="auto", **changes)

    def errors(folder: Path) -> list[float]:
        return [record["val/mse@0.5"] for record in read_jsonl(folder / "metrics.jsonl") if "val/mse@0.5" in record]

    train(str(config), "single", tmp_path / "one")
    expected, weights = losses(tmp_path / "one"), load_file(tmp_path / "one" / "weights.safetensors")
    assert len(expected) == 8
    assert len(errors(tmp_path / "one")) == 2
    for kind in kinds:
        train(str(config), kind, tmp_path / kind, "--context-parallel", "2")
        assert losses(tmp_path / kind) == pytest.approx(expected, rel=1e-5), kind
        assert errors(tmp_path / kind) == pytest.approx(errors(tmp_path / "one"), rel=1e-5), kind
        assert apart(weights, load_file(tmp_path / kind / "weights.safetensors")) < 1e-5, kind
    shutil.rmtree(tmp_path / "ddp" / "checkpoints" / "step_00000008")
    said = train(str(config), "single", tmp_path / "ddp").stderr
    assert "resumed from" in said
    assert "start anew" not in said
    assert losses(tmp_path / "ddp") == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_shared_is_refused(tiny):
    with pytest.raises(UserError, match="context_parallel 2 does not divide the number of processes, 1"):
        Trainer(tiny(context_parallel=2))
    with pytest.raises(UserError, match="context_parallel is 0"):
        tiny(context_parallel=0)


def test_each_process_counts_its_share_of_the_work_and_the_memory():
    def counted(count: int) -> StepCost:
        denoiser = stirred(base=BASE | {"depth": 1})
        x = torch.zeros(1, 4, 4, 3, 8, 16)
        cond = {"known": torch.zeros(1, 4, 4, dtype=torch.bool), "known_frames": x}
        with pretended_group(denoiser.network, count) as sent:
            return step_cost(denoiser, Batch(x, cond, []), torch.ones(1, 4, 4), None, sent)

    alone, two = counted(1), counted(2)
    assert alone.sent == alone.forward_sent == 0
    tokens = 4 * 4 * 4 * (2 * 4) * 32  # bytes, 8 patches a cell
    pixels = 4 * 4 * 4 * (3 * 8 * 16)
    assert two.forward_sent == 2 * tokens // 4 + pixels // 2  # it holds half, and keeps half of what it exchanges
    assert two.sent == 2 * two.forward_sent
    assert two.flops == pytest.approx(alone.flops / 2, rel=0.04)  # the noise levels of its rows and of its columns
    assert two.kept < 0.6 * alone.kept
    with (
        pytest.raises(UserError, match="a Linear cannot be shared between processes"),
        pretended_group(nn.Linear(1, 1), 2),
    ):
        pass
    assert not torch.distributed.is_initialized()


def test_a_dry_run_of_sv4d_says_what_each_process_keeps_and_sends(tiny):
    def counted(count: int, views: int = 5) -> str:
        return describe(tiny(**video_grids("sv4d2-debug", views), context_parallel=count))

    def gigabytes(text: str, words: str) -> float:
        return next(float(line.split()[0]) for line in text.splitlines() if words in line)

    alone, two = counted(1), counted(2)
    assert "GB sent" not in alone
    kept = "GB of activations kept for the backward pass"
    assert gigabytes(two, kept) == pytest.approx(gigabytes(alone, kept) / 2, rel=0.1)
    assert gigabytes(two, "GB sent to the others (2 processes on each grid, a micro-batch)") > 0
    assert "2 processes cannot share a grid of 3 views: context_parallel must divide views" in counted(2, views=4)


def test_processes_that_share_a_grid_draw_other_dropout(tiny, monkeypatch):
    """Adapters' dropout comes from PyTorch's own generator: the same entries of every part would be left out."""
    trainer = Trainer(tiny())
    stage = trainer.config.stages[0]
    batch = read_batch(next(iter(open_stream(trainer.config, stage, 0, 1))), torch.device("cpu"))

    def seed(process: int, together: int) -> int:
        monkeypatch.setattr(trainer.accelerator.state, "process_index", process)
        trainer.config = replace(trainer.config, context_parallel=together)
        trainer.loss_of(batch, trainer.config.loss, stage, 0)
        return torch.initial_seed()

    assert seed(0, 1) == seed(1, 1) == seed(0, 2) == seed(2, 2)  # of other grids by the reader's number
    assert seed(1, 2) == seed(3, 2) != seed(0, 2)
