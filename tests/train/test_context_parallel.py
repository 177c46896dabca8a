"""Two processes on each grid: the run of one process, which goes on from their checkpoint; refusals; memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.train.cost import StepCost, pretended_group, step_cost
from viewtime.train.loop import Trainer
from viewtime.train.streams.batches import Batch

from .conftest import losses, write_config
from .stirred_grid_model import stirred
from .test_distributed import apart, train

BASE = {"patch": 4, "width": 32, "depth": 2, "head_dim": 16, "mlp_ratio": 2, "text_width": 0, "frame_size": [8, 16]}
DATA = {"size": 8, "width": 16, "views": 4, "frames": 2, "channels": 3}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_on_each_grid_train_as_one(tmp_path):
    """By every strategy: losses, validation and weights within 1e-5. One process goes on from step 4."""
    config = write_config(
        tmp_path,
        model={"name": "tests.train.stirred_grid_model:stirred", "config": {"base": BASE}},
        data={"factory": "synthetic", "options": DATA},
        optimizer={"eps": 1e-5},
        validation={"every_steps": 4, "data": {"fixed": 4}, "sample_steps": 2, "sample_grids": 1},
        device="auto",
    )

    def errors(folder: Path) -> list[float]:
        return [record["val/mse@0.5"] for record in read_jsonl(folder / "metrics.jsonl") if "val/psnr" in record]

    train(str(config), "single", tmp_path / "one")
    expected, weights = losses(tmp_path / "one"), load_file(tmp_path / "one" / "weights.safetensors")
    assert len(expected) == 8
    assert len(errors(tmp_path / "one")) == 2
    for kind in ("ddp", "zero2", "zero3", "fsdp2"):
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
        with pretended_group(denoiser.network, count):
            return step_cost(denoiser, Batch(x, cond, []), torch.ones(1, 4, 4), None)

    alone, two = counted(1), counted(2)
    assert two.flops == pytest.approx(alone.flops / 2, rel=0.04)  # the noise levels of its rows and of its columns
    assert two.kept < 0.6 * alone.kept
    with (
        pytest.raises(UserError, match="a Linear cannot be shared between processes"),
        pretended_group(nn.Linear(1, 1), 2),
    ):
        pass
    assert not torch.distributed.is_initialized()
