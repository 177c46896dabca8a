"""Interpolated frames against shapes whose motion is known, and the plan of anchors around them."""

from __future__ import annotations

import pytest
import torch

from viewtime.errors import UserError
from viewtime.sample.plan.plan import Problem, input_row
from viewtime.sample.plan.plans import make_plan
from viewtime.sample.run.between import by_flow, interpolated, linear, optical_flow
from viewtime.sample.run.store import CellStore

SIZE = 48


def blob(x: float, y: float = 24.0) -> torch.Tensor:
    """RGBA [4, H, W]: an orange disk of radius 8 with a soft edge and a shaded inside, straight alpha."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    distance = ((columns - x) ** 2 + (rows - y) ** 2).sqrt()
    alpha = ((9 - distance) / 2).clamp(0, 1)
    shade = 0.5 + 0.4 * torch.sin((columns - x) / 2.5) * torch.sin((rows - y) / 2.5)
    return torch.stack([shade, 0.5 * shade, torch.zeros_like(shade), torch.ones_like(shade)]) * torch.cat(
        [(alpha[None] > 0).float().expand(3, -1, -1), alpha[None]]
    )


def centre(cell: torch.Tensor) -> float:
    """Mean x of alpha."""
    weight = cell[3].sum(0)
    return float((weight * torch.arange(SIZE)).sum() / weight.sum())


def test_flow_finds_a_shift_and_the_middle_is_where_the_object_is():
    first, last = blob(20.0), blob(26.0)
    flow = optical_flow(*(cell[None, 3:] * cell[None, :1] for cell in (first, last)))
    inside = blob(20.0)[3] == 1
    assert float(flow[0, 0][inside].mean()) == pytest.approx(6.0, abs=0.4)
    assert float(flow[0, 1][inside].abs().mean()) < 0.4
    times = torch.tensor([0.25, 0.5])
    moved, faded = by_flow(first, last, times), linear(first, last, times)
    for index, time in enumerate(times):
        truth = blob(20.0 + 6.0 * float(time))
        errors = [float((cells[index, 3] - truth[3]).square().mean()) for cells in (moved, faded)]
        assert errors[0] < 0.25 * errors[1]
        assert centre(moved[index]) == pytest.approx(20.0 + 6.0 * float(time), abs=0.3)
    assert float(faded[1, 3].unique().numel()) > 2  # two ghosts, half transparent


def test_a_cross_fade_keeps_colours_where_only_one_end_has_the_object():
    first, empty = blob(24.0), torch.zeros(4, SIZE, SIZE)
    (middle,) = linear(first, empty, torch.tensor([0.5]))
    there = first[3] == 1
    assert torch.allclose(middle[:3, there], first[:3, there])
    assert torch.allclose(middle[3, there], torch.full_like(middle[3, there], 0.5))


@pytest.mark.parametrize("inside", [False, True])
def test_anchors_are_sampled_and_the_rest_lies_between_them(tmp_path, inside: bool):
    problem = Problem(3, 9, 3, 5, input_row(9), inside=inside)
    plan = make_plan("anchors-linear", problem)
    denoised = [window for window in plan.windows if window.denoised]
    assert [window.frames for window in denoised] == [(0, 4, 8)]
    between = [window for window in plan.windows if not window.denoised]
    assert [sorted({frame for _, frame in window.sampled}) for window in between] == [[1, 2, 3], [5, 6, 7]]
    assert len(plan.waves) == 2
    store = CellStore(tmp_path, plan)
    for frame in range(9):
        store.put_given((0, frame), torch.full((3, 2, 2), 0.01 * frame))
    (anchor,) = denoised
    values = torch.tensor([0.0, 1.0, 0.5]).view(1, 3, 1, 1, 1).expand(len(anchor.views), 3, 3, 2, 2)
    store.put_window(anchor, values)
    for window in between:
        store.put_window(window, interpolated(window, store))
    row = store.row(1)[:, 0, 0, 0]
    assert row.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 0.875, 0.75, 0.625, 0.5])
    assert store.row(0)[:, 0, 0, 0].tolist() == pytest.approx([0.01 * frame for frame in range(9)])


def test_windows_too_short_for_anything_between_are_refused():
    with pytest.raises(UserError, match="leave nothing between two anchors"):
        make_plan("anchors-flow", Problem(3, 9, 3, 2, input_row(9), inside=False))
