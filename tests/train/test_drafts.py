"""Samples noised from the model's own predictions."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from viewtime.configs.schema.loss import LossSection
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.train.loop import Trainer
from viewtime.train.objective.drafts import with_drafts
from viewtime.train.objective.losses import noised_batch, sample_generator

SHAPE = (3, 2, 2, 4, 8, 8)


class Recorder:
    """Predicts 0.25 everywhere and keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, torch.Tensor, bool]] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, cond: dict) -> torch.Tensor:
        self.calls.append((x, sigma, torch.is_grad_enabled()))
        return torch.full_like(x, 0.25)


def batch(loss: LossSection):
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(SHAPE[:3], dtype=torch.bool)
    known[:, 0] = True
    return x0, noised_batch(x0, known, loss, [sample_generator(0, i) for i in range(SHAPE[0])])


def generators(first: int = 0, count: int = SHAPE[0]) -> list[torch.Generator]:
    return [sample_generator(1, first + i, purpose=5) for i in range(count)]


def test_a_drafted_sample_is_the_prediction_noised_by_the_noise_that_it_came_from():
    loss = LossSection(drafted=1.0, point_mass=1.0)
    x0, noised = batch(loss)
    model = Recorder()
    drafted = with_drafts(noised, model, {}, loss, generators())
    ((noise, sigma, grad),) = model.calls
    assert not grad
    assert torch.equal(sigma, noised.unknown.float())
    assert torch.equal(drafted.x[:, 0], x0[:, 0])
    assert float(drafted.sigma[:, 0].abs().max()) == 0
    t = drafted.sigma[:, 1:2, :, None, None, None]
    assert bool((t < 0.98).all())  # drawn without the point mass
    torch.testing.assert_close(drafted.x[:, 1:], ((1 - t) * 0.25 + t * noise[:, 1:]))
    assert drafted.level.tolist() == [1.0] * SHAPE[0]


def test_samples_are_drafted_one_by_one_and_the_others_stay():
    loss = LossSection(drafted=0.5)
    together = noised_batch(torch.zeros(64, 1, 1, 4, 2, 2), None, loss, [sample_generator(0, i) for i in range(64)])
    drafted = with_drafts(together, Recorder(), {}, loss, generators(count=64))
    changed = (drafted.x != together.x).flatten(1).any(1)
    assert 20 < int(changed.sum()) < 44
    assert torch.equal(drafted.level[~changed], together.level[~changed])
    for i in (3, 17):
        alone = noised_batch(torch.zeros(1, 1, 1, 4, 2, 2), None, loss, [sample_generator(0, i)])
        again = with_drafts(alone, Recorder(), {}, loss, generators(i, 1))
        assert torch.equal(again.x[0], drafted.x[i])


def test_every_process_asks_its_model_whether_or_not_a_sample_is_drafted():
    loss = LossSection(drafted=1e-9)
    _, noised = batch(loss)
    model = Recorder()
    same = with_drafts(noised, model, {}, loss, generators())
    assert len(model.calls) == 1
    assert torch.equal(same.x, noised.x)
    assert torch.equal(same.sigma, noised.sigma)
    assert torch.equal(same.level, noised.level)


@pytest.mark.parametrize(
    "options",
    [{"drafted": 1.5}, {"drafted": 0.5, "kind": "edm", "weighting": "edm"}, {"drafted": 0.5, "known_cells": "ignored"}],
)
def test_impossible_shares_are_refused(options):
    with pytest.raises(UserError, match=r"loss\.drafted"):
        LossSection(**options)


def test_a_run_on_drafts_counts_them_at_the_highest_level(tiny, tmp_path):
    AcceleratorState._reset_state(True)
    Trainer(tiny(loss__drafted=1.0, loss__logit_mean=-3.0)).run()
    records = [record for record in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "loss" in record]
    buckets = {key for record in records for key in record if key.startswith("loss/")}
    assert buckets == {"loss/0.8..1"}
    assert all(record["loss"] > 0 for record in records)


def test_every_sample_of_a_run_draws_from_numbers_of_its_own(tiny, monkeypatch):
    """Whatever the batch: sample n of a stage draws its noise and its draft from n."""
    AcceleratorState._reset_state(True)
    drawn: dict[int, list[int]] = {}

    def noted(seed: int, index: int, purpose: int = 0) -> torch.Generator:
        drawn.setdefault(purpose, []).append(index)
        return sample_generator(seed, index, purpose)

    for place in ("loop", "objective.task"):
        monkeypatch.setattr(f"viewtime.train.{place}.sample_generator", noted)
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 2}]
    Trainer(tiny(
        loss={"drafted": 0.5, "adversarial": 0.5}, critic={"width": 4}, optimizer__accumulate=2, stages=stages
    )).run()  # fmt: skip
    every = list(range(8))
    assert drawn == {0: every, 1: [0, 2, 4, 6], 4: every, 5: every}
