"""Which cells a fit's step looks at, how fast it learns, when it splits and stops: counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.pins import assert_pinned
from viewtime.recon.fitting.loop import Progress
from viewtime.recon.fitting.schedule import Schedule, pick_views
from viewtime.recon.gaussians.canonical import Gaussians
from viewtime.recon.gaussians.densify import Densifier, separate


def test_frames_enter_over_the_first_two_fifths() -> None:
    schedule = Schedule(11, 1000)
    entered = [schedule.entered(iteration) for iteration in (0, 39, 40, 79, 80, 200, 399, 400, 1000)]
    assert entered == [2, 2, 3, 3, 4, 7, 11, 11, 11]
    assert Schedule(11, 1000, curriculum=False).entered(0) == 11
    assert Schedule(1, 1000).entered(0) == 1


def test_the_rate_falls_over_the_last_two_fifths() -> None:
    schedule = Schedule(5, 1000)
    assert [schedule.rate(iteration) for iteration in (0, 600)] == [1.0, 1.0]
    assert schedule.rate(800) == pytest.approx(math.sqrt(0.05))
    assert schedule.rate(1000) == pytest.approx(0.05)


def test_new_frames_are_looked_at_most() -> None:
    schedule, generator = Schedule(20, 1000), torch.Generator().manual_seed(0)
    picks = torch.stack([schedule.pick_frames(200, 1, generator) for _ in range(800)]).flatten()
    assert int(picks.max()) == schedule.entered(200) - 1 == 10
    assert float((picks >= 8).float().mean()) == pytest.approx(0.6, abs=0.06)
    late = torch.stack([schedule.pick_frames(900, 1, generator) for _ in range(800)]).flatten()
    assert float((late >= 17).float().mean()) == pytest.approx(0.15, abs=0.05)
    assert len(schedule.pick_frames(0, 5, generator)) == 2
    usable = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    weights = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    views = pick_views(usable, torch.tensor([0, 1]), 3, generator, weights)
    assert views.sort(dim=1).values.tolist() == [[1, 2], [0, 2]]
    assert_pinned("views", pick_views(torch.ones(9, 4) > 0, torch.arange(4), 3, generator, torch.ones(9, 4)))


def test_the_error_is_smoothed() -> None:
    progress = Progress()
    assert progress.psnr == 100
    progress.update(0.01)
    assert progress.psnr == pytest.approx(20)
    progress.update(0.11)
    assert progress.error == pytest.approx(0.012)


def test_the_fifth_that_moved_most_is_split() -> None:
    densifier = Densifier(3, 1000, 10)
    assert densifier.due_at == {150, 300, 450}
    gradient = torch.zeros(10, 3)
    gradient[4], gradient[7] = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 0.0, 6.0])
    densifier.observe(gradient)
    densifier.observe(None)
    densifier.observe(gradient / 2)
    assert densifier.gradient[[4, 7, 0]].tolist() == [7.5, 9.0, 0.0]
    densifier.select(torch.tensor([7, 7, 4, 0, 1]))
    assert densifier.gradient.tolist() == [9.0, 9.0, 7.5, 0.0, 0.0]
    assert densifier.split().item() in (0, 1)
    assert not densifier.gradient.any()


def test_halves_move_apart_and_shrink() -> None:
    position = torch.tensor([[0.0, 0, 0], [5, 5, 5], [0, 0, 0]])
    gaussians = Gaussians(position, torch.tensor([0.5, 1.0, 0.5]), torch.full((3, 3), 0.5), True)
    before = gaussians.log_scale.detach().clone()
    separate(gaussians, torch.tensor([0]), torch.tensor([2]), torch.Generator().manual_seed(0))
    moved = gaussians.position.detach()
    assert torch.equal(moved[0], -moved[2])
    assert torch.equal(moved[1], position[1])
    draw = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(moved[0], draw * before[0].exp().mean())
    shrunk = (before - gaussians.log_scale.detach()).flatten()
    assert shrunk.tolist() == pytest.approx([math.log(1.6), 0.0, math.log(1.6)])
