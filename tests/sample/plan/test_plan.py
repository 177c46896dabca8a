"""Plans are sound for any grid and window size, and are what the papers and scripts say."""

import re
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from viewtime.errors import UserError
from viewtime.sample.plan import plan_view
from viewtime.sample.plan.plan import GIVEN, Direction, Plan, Problem, Window, input_row
from viewtime.sample.plan.plans import PLANS, make_plan


@st.composite
def problems(draw):
    views, frames = draw(st.integers(1, 12)), draw(st.integers(1, 60))
    inside = draw(st.booleans())
    cells = set(input_row(frames))
    if draw(st.booleans()):
        cells |= {(view, 0) for view in range(views)}
    if draw(st.booleans()):
        extra = st.tuples(st.integers(0, views - 1), st.integers(0, frames - 1))
        cells |= draw(st.sets(extra, max_size=8))
    return Problem(
        views,
        frames,
        draw(st.integers(2 if inside else 1, 13)),
        draw(st.integers(1, 25)),
        frozenset(cells),
        inside=inside,
        reference_stage=draw(st.booleans()),
        keep_input=draw(st.booleans()),
        overlap=draw(st.integers(1, 4)),
        input_last=draw(st.booleans()),
    )


def nothing_between(problem, name: str) -> bool:
    return name.startswith("anchors-") and problem.window_frames < min(3, problem.frames)


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from(sorted(PLANS)))
def test_every_cell_is_sampled_and_no_condition_comes_too_early(problem, name):
    """An independent walk through the windows, beside the plan's own check."""
    rows = problem.views if problem.inside else max(problem.views - 1, 1)
    if name == "joint" and (rows > problem.window_views or problem.frames > problem.window_frames):
        with pytest.raises(UserError, match="do not fit"):
            make_plan(name, problem)
        return
    if nothing_between(problem, name):
        with pytest.raises(UserError, match="nothing between"):
            make_plan(name, problem)
        return
    plan = make_plan(name, problem)
    there = set(problem.given)
    for window in plan.windows:
        for direction in window.directions:
            assert set(direction.conditions) <= there
            assert sorted(direction.frames) == sorted(window.frames)
        if window.stage != "reference":
            assert len(window.views) <= problem.window_views
            assert len(window.frames) <= problem.window_frames
        assert window.sampled <= set(product(window.views, window.frames)) - problem.given
        there |= window.sampled
    assert there == set(product(range(problem.views), range(problem.frames)))


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from(sorted(set(PLANS) - {"joint"})))
def test_waves_respect_what_windows_need(problem, name):
    assume(not nothing_between(problem, name))
    plan = make_plan(name, problem)
    wave = {window.index: number for number, group in enumerate(plan.waves) for window in group}
    assert sorted(wave) == list(range(len(plan.windows)))
    for window in plan.windows:
        assert all(wave[index] < wave[window.index] for index in plan.needs(window))
        for cell in window.conditions:
            producer = plan.producer(cell, window.index)
            assert producer == GIVEN or cell in plan.windows[producer].sampled


def test_sv4d_is_the_published_procedure():
    """21 frames, 8 views, windows of 5: anchors 4, 8, ..., 20, then five dense windows, backward first."""
    plan = make_plan("sv4d", Problem(9, 21, 8, 5, input_row(21), inside=False, reference_stage=True))
    reference, anchor, *dense = plan.windows
    views = tuple(range(1, 9))
    assert (reference.stage, reference.frames, reference.views) == ("reference", (0,), views)
    assert anchor.frames == (4, 8, 12, 16, 20)
    assert {cell for cell in anchor.conditions if cell[0]} == {(view, 0) for view in views}
    assert [window.frames[0] for window in dense] == [0, 4, 8, 12, 16]
    for window in dense:
        backward, forward = window.direction(0), window.direction(1)
        first, last = window.frames[0], window.frames[-1]
        assert backward.frames == window.frames[::-1]
        assert {frame for view, frame in backward.conditions if view} == {last}
        assert {frame for view, frame in forward.conditions if view} == {first}
        # The first anchor is the freshly sampled one of the window before; the last is still the anchor stage's.
        assert plan.producer((1, last), window.index) == anchor.index
        assert plan.producer((1, first), window.index) == (reference.index if first == 0 else window.index - 1)


def test_sv4d2_is_the_fixed_published_procedure():
    starts = [w.frames[0] for w in make_plan("sv4d2", Problem(5, 21, 4, 12, input_row(21), inside=False)).windows]
    assert starts == [0, 9]
    eight = make_plan("sv4d2", Problem(9, 21, 8, 5, input_row(21), inside=False))
    assert [window.frames[0] for window in eight.windows] == [0, 4, 8, 12, 16]
    # 24 frames: the published rule before its fix refers to a frame that nobody has made.
    longer = make_plan("sv4d2", Problem(5, 24, 4, 12, input_row(24), inside=False))
    assert all((1, w.frames[0]) in w.conditions for w in longer.windows[1:])


def test_ablation_plans():
    problem = Problem(3, 10, 2, 4, input_row(10), inside=False)
    assert [w.frames for w in make_plan("independent", problem).windows] == [(0, 1, 2, 3), (4, 5, 6, 7), (6, 7, 8, 9)]
    assert [w.frames for w in make_plan("interleaved", problem).windows] == [(0, 3, 6, 9), (1, 4, 7), (2, 5, 8)]
    assert len(make_plan("independent", problem).waves) == len(make_plan("interleaved", problem).waves) == 1


def test_a_wrong_plan_is_found():
    problem = Problem(2, 2, 2, 2, input_row(2))
    early = Window(0, "window", (0, 1), (0,), frozenset({(1, 0)}), (Direction("", (0,), ((1, 1),)),))
    with pytest.raises(AssertionError, match="does not exist yet"):
        Plan("wrong", problem, (early,)).check()
    fine = Window(0, "window", (0, 1), (0,), frozenset({(1, 0)}), (Direction("", (0,), ((0, 0),)),))
    with pytest.raises(AssertionError, match="never sampled"):
        Plan("wrong", problem, (fine,)).check()
    overwriting = Window(0, "window", (0, 1), (0, 1), frozenset({(1, 0), (0, 1)}), (Direction("", (0, 1), ()),))
    with pytest.raises(AssertionError, match="overwrites"):
        Plan("wrong", problem, (overwriting,)).check()


def test_a_plan_prints_and_draws_itself(tmp_path):
    plan = make_plan("sv4d", Problem(9, 21, 8, 5, input_row(21), inside=False, reference_stage=True))
    text = plan_view.table(plan)
    assert len(text.splitlines()) == 3 + len(plan.windows)
    assert re.search(
        r"dense\s+1-8\s+0-4\s+40\s+backward: input 0-4, views 1-8 at 4 \| forward: input 0-4, views 1-8 at 0", text
    )
    path = plan_view.draw(plan, tmp_path / "plan.png")
    assert path.stat().st_size > 1000
    assert plan_view.ranges([4, 3, 2, 1, 0]) == "4-0"
    assert plan_view.ranges([4, 8, 12]) == "4,8,12"
