"""SV4D's alternating directions against conditioning on both anchors at once, on cells whose distribution is known.

One cell x lies between two anchors a and b; all have variance 1, x has correlation c with each and the anchors c² with
each other (a Markov chain). An exact denoiser given a alone predicts towards the mean c a with variance 1 - c²; given b
alone, towards c b with the same variance. Integrating the mean of the two predictions therefore ends at
c (a + b) / 2 + sqrt(1 - c²) e, whose variance is 1 - c² (1 - c²) / 2. The conditional mean of x given both anchors is
c (a + b) / (1 + c²), and sampling it gives variance 1.
"""

import numpy as np
import pytest
import torch
from gaussian_model import RHO, GaussianModel

from viewtime.cameras import regular_orbit
from viewtime.sample.plan.plan import Direction, Plan, Problem, Window, input_row
from viewtime.sample.plan.plans import make_plan
from viewtime.sample.run.runner import Settings, run_plan
from viewtime.sample.run.store import CellStore
from viewtime.sample.solver.schedules import make_schedule

SIZE = 128
ANCHORS = {"a": (1, 0), "b": (1, 2)}


def between(folder, *references, steps=1024):
    """The middle cell and both anchors as [3, pixels] (a, x, b); each direction is conditioned on these anchors."""
    given = input_row(3) | set(ANCHORS.values())
    problem = Problem(2, 3, 1, 1, given, inside=False)
    directions = tuple(Direction("", (1,), tuple(ANCHORS[name] for name in names)) for names in references)
    plan = Plan("between", problem, (Window(0, "dense", (1,), (1,), frozenset({(1, 1)}), directions),))
    model = GaussianModel(2, 3, 1, 1, inside=False, size=SIZE)
    index = np.arange(3)
    # The views are independent here: only the chain in time is left.
    model.cov = np.kron(np.eye(2), RHO ** np.abs(index[:, None] - index[None]))
    store = CellStore(folder, plan)
    noise = torch.randn(3, SIZE * SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    chain = torch.linalg.cholesky(torch.from_numpy(model.cov[:3, :3])) @ noise
    for cell in given:
        store.put_given(cell, chain[cell[1]].reshape(1, SIZE, SIZE).float())
    settings = Settings(make_schedule("edm", steps, sigma_max=80.0), "euler")
    list(run_plan(plan, model, store, regular_orbit(2, 3), settings))
    return store.read([(1, 0), (1, 1), (1, 2)]).double().reshape(3, -1)


@pytest.mark.parametrize(
    ("references", "weight", "variance"),
    [
        (("a", "b"), RHO / 2, 1 - RHO**2 * (1 - RHO**2) / 2),
        (("ab",), RHO / (1 + RHO**2), 1.0),
    ],
    ids=["alternating", "both at once"],
)
def test_alternation_integrates_the_mean_of_two_predictions(references, weight, variance, tmp_path):
    before, middle, after = between(tmp_path, *references)
    anchors = torch.stack([before, after])
    regression = torch.linalg.solve(anchors @ anchors.T, anchors @ middle)
    # 16384 pixels: a standard error of 1.1 % for the variance, 0.6 % for the weights.
    assert (regression - weight).abs().max() < 0.03
    assert middle.square().mean() == pytest.approx(variance, rel=0.035)


def test_only_a_network_with_one_reference_column_alternates():
    """Known cells inside the grid: both anchors at once. Beside it (SV4D): backward and forward in turn."""
    inside = make_plan("sv4d", Problem(4, 9, 4, 5, input_row(9)))
    for window in inside.windows[1:]:
        (direction,) = window.directions
        assert {frame for view, frame in direction.conditions if view} == {window.frames[0], window.frames[-1]}
        assert {frame for _, frame in window.sampled} == set(window.frames[1:-1])
    beside = make_plan("sv4d", Problem(5, 9, 4, 5, input_row(9), inside=False))
    assert [d.name for d in beside.windows[-1].directions] == ["backward", "forward"]
