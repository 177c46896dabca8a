"""Noise levels made for a denoiser, and the user's own."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.solver_ladder import fine_run, mixture
from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.sample import SampleConfig, SamplerOptions
from viewtime.errors import UserError
from viewtime.sample.models.grid_model import SamplerDefaults
from viewtime.sample.run.settle import settle_schedule
from viewtime.sample.solver.ladder import made_for

FINE = torch.logspace(2, -2, 81, dtype=torch.float64).tolist()
OTHER = SamplerDefaults(steps=20)


def test_where_the_prediction_turns_evenly_the_levels_are_even_in_the_logarithm():
    ladder = made_for(FINE, [torch.full((3,), math.log(level)) for level in FINE], 9)
    torch.testing.assert_close(ladder[:-1], torch.logspace(2, -2, 9, dtype=torch.float64))
    assert float(ladder[-1]) == 0


def test_each_step_has_the_same_share_of_the_speed_to_the_power_of_the_order():
    """D = log(sigma)³: its speed at l = log(sigma) is 3 l², so the integral of its cube root goes as |l|^(5/3)."""
    ladder = made_for(FINE, [torch.full((2,), math.log(level) ** 3) for level in FINE], 21, order=2)[:-1]
    course = ladder.log().sign() * ladder.log().abs() ** (5 / 3)
    torch.testing.assert_close(course.diff(), course.diff().mean().expand(20), rtol=0.05, atol=0)
    first = made_for(FINE, [torch.full((2,), math.log(level) ** 3) for level in FINE], 21, order=1)[:-1]
    course = first.log().sign() * first.log().abs() ** 2
    torch.testing.assert_close(course.diff(), course.diff().mean().expand(20), rtol=0.05, atol=0)


def test_a_part_where_nothing_turns_has_few_levels():
    ladder = made_for(FINE, [torch.tensor([float(level < 1) * math.log(level)]) for level in FINE], 12)[:-1]
    assert (float(ladder[0]), float(ladder[-1])) == pytest.approx((100, 0.01))
    assert int((ladder > 1.2).sum()) == 1
    assert bool((ladder.diff() < 0).all())


@pytest.mark.parametrize(
    ("levels", "count", "steps"), [(FINE[:2], 2, 5), (FINE[::-1], 81, 5), (FINE, 80, 5), (FINE, 81, 1)]
)
def test_what_makes_no_ladder_is_refused(levels: list[float], count: int, steps: int):
    with pytest.raises(UserError, match="a ladder"):
        made_for(levels, [torch.zeros(1)] * count, steps)


def test_thirteen_such_steps_err_less_than_fifty_published_ones():
    subject = mixture(2.0, count=64)
    truth = subject.run("heun", subject.ladder(400))
    course = fine_run(subject)

    def error(solver: str, levels: torch.Tensor) -> float:
        return float((subject.run(solver, levels) - truth).square().mean())

    made, fifty = error("dpmpp-2m", made_for(*course, 13)), error("euler", subject.ladder(50))
    assert made < 0.6 * fifty
    assert error("dpmpp-2m", subject.ladder(13)) > 1.5 * fifty


def test_the_users_levels_are_those_of_the_steps():
    schedule = settle_schedule("edm", OTHER, SamplerOptions(levels=(80.0, 3.0, 0.5)))
    assert (schedule.kind, schedule.sigmas.tolist()) == ("edm", [80.0, 3.0, 0.5, 0.0])
    assert settle_schedule("flow", OTHER, SamplerOptions(levels=(1.0, 0.25), steps=2)).sigmas.tolist() == [1, 0.25, 0]
    fast = build(SampleConfig, {"video": "in.mp4", **load_preset("sample-fast", "sample")}, "sample-fast")
    levels = settle_schedule("edm", OTHER, fast.sampler).sigmas
    assert (len(levels), float(levels[0]), fast.sampler.name) == (14, 700.0, "dpmpp-2m")
    with pytest.raises(UserError, match="between 0 and 1"):
        settle_schedule("flow", OTHER, fast.sampler)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": (1.0, 3.0)}, "1 3; they must fall"),
        ({"levels": (3.0, 0.0)}, "they must fall"),
        ({"levels": (3.0, 1.0), "steps": 3}, "are 2 and --sampler.steps is 3"),
    ],
)
def test_levels_that_make_no_schedule_are_refused(options: dict, words: str):
    with pytest.raises(UserError, match=words):
        settle_schedule("edm", OTHER, SamplerOptions(**options))
