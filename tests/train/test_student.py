"""A student of few sampling steps learns where its teacher arrives in many."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from torch import nn

from viewtime.configs.schema.loss import LossSection
from viewtime.errors import UserError
from viewtime.sample.models.loading import load_model
from viewtime.sample.solver.samplers import euler
from viewtime.sample.solver.schedules import Schedule, make_schedule
from viewtime.train.dry_run import describe
from viewtime.train.loop import Trainer
from viewtime.train.objective.losses import sample_generator
from viewtime.train.objective.student import Teacher, ladders, teacher_evaluations

from .conftest import losses

MEAN, SPREAD = 0.3, 0.4
SHAPE = (2, 3, 2, 4, 4, 4)
FOUR_OF_32 = {"steps": 4, "teacher": {"name": "euler", "steps": 32}}
UNGUIDED = {"steps": 2, "teacher": {"name": "heun", "steps": 400, "sigma_min": 0.5}}
GUIDED = {"guidance": "linear", "guidance_low": 1.0, "guidance_high": 3.0}


class Gaussian(nn.Module):
    """The exact denoiser of data that are normal in every pixel, N(MEAN · given, SPREAD²)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.schedule_kind, self.kind = kind, kind
        self.calls = 0

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, cond: dict) -> torch.Tensor:
        self.calls += 1
        sigma = sigma.view(-1, 1, 1, 1, 1, 1)
        signal = 1 - sigma if self.kind == "flow" else torch.ones_like(sigma)
        mean = MEAN * cond["given"].view(-1, 1, 1, 1, 1, 1)
        gain = signal * SPREAD**2 / (signal**2 * SPREAD**2 + sigma**2)
        return mean + gain * (x - signal * mean)


def arrival(x: torch.Tensor, kind: str, start: float, end: float) -> torch.Tensor:
    """Where the probability flow carries x: its distance from the mean stays the same in standard deviations."""

    def moments(level: float) -> tuple[float, float]:
        signal = 1 - level if kind == "flow" else 1.0
        return signal * MEAN, math.hypot(signal * SPREAD, level)

    (mean, spread), (mean_after, spread_after) = moments(start), moments(end)
    return mean_after + (x - mean) * (spread_after / spread)


def lesson(tiny, kind: str, student: dict, step: int = 0, known: bool = False):
    """(teacher's model, noised batch, target, x0) at the first choice that falls on this step."""
    loss = {"kind": kind, "weighting": "x0", "known_cells": "clean"}
    config = tiny(student=student, loss=loss)
    teacher = Teacher(config, Gaussian(kind), torch.device("cpu"), None)
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * SPREAD + MEAN
    cond = {"given": torch.ones(SHAPE[0])}
    if known:
        cond["known"] = torch.zeros(SHAPE[:3], dtype=torch.bool)
        cond["known"][:, 0] = True
    levels = [float(part.sigmas[0]) for part in ladders(config, kind)]
    for seed in range(100):
        choice = torch.Generator().manual_seed(seed)
        fresh = lambda: [sample_generator(0, index) for index in range(SHAPE[0])]  # noqa: E731
        noised, target = teacher.lesson(x0, cond, LossSection(**loss), fresh, choice)
        if float(noised.level[0]) == pytest.approx(levels[step]):
            return teacher, noised, target, x0
    raise AssertionError("this step is never chosen")


@pytest.mark.parametrize("shift", [None, 0.4])
def test_the_levels_of_a_flow_are_those_of_sampling(tiny, shift):
    teacher = FOUR_OF_32["teacher"] | ({} if shift is None else {"shift": shift})
    parts = ladders(tiny(student={"steps": 4, "teacher": teacher}), "flow")
    many, few = (make_schedule("flow", steps, shift=shift or 1.0).sigmas for steps in (32, 4))
    assert torch.equal(torch.cat([parts[0].sigmas[:1], *(part.sigmas[1:] for part in parts)]), many)
    assert [float(part.sigmas[0]) for part in parts] == pytest.approx(few[:-1].tolist())


def test_the_levels_of_edm_lie_between_those_of_sampling(tiny):
    parts = ladders(tiny(student=FOUR_OF_32), "edm")
    few = make_schedule("edm", 4).sigmas.tolist()
    for part, high, low in zip(parts, few[:-1], few[1:], strict=True):
        levels = part.sigmas.double()
        assert (float(levels[0]), float(levels[-1])) == pytest.approx((high, low), rel=1e-5)
        assert (levels ** (1 / 7)).diff().tolist() == pytest.approx([(low ** (1 / 7) - high ** (1 / 7)) / 8] * 8, 1e-3)


@pytest.mark.parametrize("kind", ["flow", "edm"])
@pytest.mark.parametrize("step", [0, 1])
def test_one_step_along_the_target_arrives_where_the_flow_does(tiny, kind: str, step: int):
    _, noised, target, _ = lesson(tiny, kind, UNGUIDED, step)
    levels = make_schedule(kind, 2, sigma_min=0.5).sigmas[step : step + 2]
    made = euler(lambda x, sigma, step: target, noised.x, Schedule(kind, levels))
    exact = arrival(noised.x, kind, *levels.tolist())
    scale = max(1.0, float(levels[1]))
    torch.testing.assert_close(made / scale, exact / scale, rtol=0, atol=2e-3)
    assert float((target - Gaussian(kind)(noised.x, noised.level, {"given": torch.ones(2)})).abs().mean()) > 0.02


def test_guidance_is_part_of_the_target_and_costs_two_evaluations(tiny):
    student = {"steps": 1, "teacher": {"name": "euler", "steps": 1, **GUIDED}, "unconditional": ["given"]}
    teacher, _, target, _ = lesson(tiny, "flow", student)
    assert (teacher.module.calls, teacher_evaluations(teacher.config, "flow")) == (2, 2)
    # From pure noise, the prediction is the mean: MEAN with the condition, 0 without; the scale runs over the cells.
    scale = torch.linspace(1, 3, 6).view(2, 3).T
    torch.testing.assert_close(target, (MEAN * scale)[None, :, :, None, None, None].expand(SHAPE))
    outside = {**student, "teacher": {**student["teacher"], "guidance_interval": (0.0, 0.9)}}
    teacher, _, target, _ = lesson(tiny, "flow", outside)
    assert (teacher.module.calls, teacher_evaluations(teacher.config, "flow")) == (1, 1)
    torch.testing.assert_close(target, torch.full(SHAPE, MEAN))


def test_known_cells_stay_clean_and_are_their_own_target(tiny):
    _, noised, target, x0 = lesson(tiny, "flow", FOUR_OF_32, step=2, known=True)
    assert torch.equal(noised.x[:, 0], x0[:, 0])
    assert torch.equal(target[:, 0], x0[:, 0])
    assert not bool(noised.unknown[:, 0].any())
    assert noised.sigma[:, 1:].unique().tolist() == [0.5]
    _, _, free, _ = lesson(tiny, "flow", FOUR_OF_32, step=2)
    torch.testing.assert_close(target[:, 1:], free[:, 1:])  # this denoiser looks at one pixel alone


def test_a_run_goes_on_after_a_stop_with_the_same_teacher_and_its_file_says_how_it_is_sampled(tiny, tmp_path):
    student = {"steps": 2, "teacher": {"name": "euler", "steps": 4, "shift": 0.5, **GUIDED}}
    student["unconditional"] = ["known", "known_frames"]
    config = tiny(student=student)
    Trainer(config).run()
    first = losses(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/step_00000008")
    (tmp_path / "run/metrics.jsonl").unlink()
    Trainer(config).run()
    again = losses(tmp_path / "run")
    assert sorted(again) == [5, 6, 7, 8]
    assert again == {step: first[step] for step in again}
    sampler = load_model(str(tmp_path / "run/weights.safetensors"), torch.device("cpu")).traits.sampler
    assert (sampler.steps, sampler.name, sampler.guidance, sampler.shift) == (2, "euler", "none", 0.5)


def test_a_dry_run_counts_the_teacher(tiny):
    student = {"steps": 4, "teacher": {"name": "heun", "steps": 32, **GUIDED}, "unconditional": ["known"]}
    assert "with 32 evaluations of the teacher" in describe(tiny(student=student))  # 8 steps, 2 branches, 2 slopes
    assert "of the teacher" not in describe(tiny())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"steps": 3, "teacher": {"steps": 32}}}, "must be a multiple of student.steps 3"),
        ({"student": {"steps": -1}}, "0 for no student"),
        ({"student": {"steps": 1, "teacher": {"steps": 4, "guidance": "constant"}}}, "together or not at all"),
        ({"student": {"steps": 1, "unconditional": ["known"]}}, "together or not at all"),
        ({"student": {"steps": 1, "teacher": {"steps": 4, "cache": "steps"}}}, "student.teacher.cache"),
        ({"student": {"steps": 1, "teacher": {"steps": 2, "levels": [1.0, 0.5]}}}, "student.teacher.levels"),
        ({"student": FOUR_OF_32, "conditioning": {"dropout": {"known": 0.1}}}, "empty conditioning.dropout"),
        ({"student": FOUR_OF_32, "loss": {"outline": 0.5}}, "set 0"),
        (
            {"student": {"steps": 1, "teacher": {"steps": 1, **GUIDED}, "unconditional": ["words"]}},
            "student.unconditional names words",
        ),
    ],
)
def test_what_would_teach_something_else_is_refused(tiny, changes: dict, words: str):
    with pytest.raises(UserError, match=words):
        Trainer(tiny(**changes)).run()
