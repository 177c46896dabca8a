"""Two processes on each grid: the run of one process, which goes on from their checkpoint; refusals; memory."""

from __future__ import annotations

import shutil

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
    """Losses, validation and weights within 1e-5; one process goes on from their step 4 with the same data."""
    config = write_config(
        tmp_path,
        model={"name": "tests.train.stirred_grid_model:stirred", "config": {"base": BASE}},
        data={"factory": "synthetic", "options": DATA},
        optimizer={"eps": 1e-5},
        validation={"every_steps": 4, "data": {"fixed": 4}, "sample_steps": 2, "sample_grids": 1},
        device="auto",
    )
    train(str(config), "single", tmp_path / "one")
    train(str(config), "ddp", tmp_path / "two", "--context-parallel", "2")
    expected, weights = losses(tmp_path / "one"), load_file(tmp_path / "one" / "weights.safetensors")
    assert len(expected) == 8
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)
    assert apart(weights, load_file(tmp_path / "two" / "weights.safetensors")) < 1e-5
    measured = [
        [record["val/mse@0.5"] for record in read_jsonl(tmp_path / name / "metrics.jsonl") if "val/psnr" in record]
        for name in ("one", "two")
    ]
    assert len(measured[0]) == 2
    assert measured[1] == pytest.approx(measured[0], rel=1e-5)
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step_00000008")
    said = train(str(config), "single", tmp_path / "two").stderr
    assert "resumed from" in said
    assert "start anew" not in said
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)


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
    assert two.flops == pytest.approx(alone.flops / 2, rel=0.02)  # the noise levels of its rows and of its columns
    assert two.kept < 0.6 * alone.kept
    with (
        pytest.raises(UserError, match="a Linear cannot be shared between processes"),
        pretended_group(nn.Linear(1, 1), 2),
    ):
        pass
    assert not torch.distributed.is_initialized()
