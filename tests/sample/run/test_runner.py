"""The engine on an analytic model: marginals of every plan, seeds, batching, resuming."""

import pytest
import torch
from gaussian_model import GaussianModel, covariance

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.sample import PlanOptions
from viewtime.errors import UserError
from viewtime.sample.models.grid_model import ModelTraits
from viewtime.sample.plan.plan import Problem, input_row
from viewtime.sample.plan.plans import PLANS, make_plan
from viewtime.sample.run.runner import Settings, run_plan
from viewtime.sample.run.settle import settle_plan
from viewtime.sample.run.store import CellStore
from viewtime.sample.solver.cache import StepCache
from viewtime.sample.solver.noise import cell_noise, cell_seed
from viewtime.sample.solver.schedules import make_schedule

V, F = 4, 9


def sample(folder, name, inside, *, size=32, seed=0, kind="flow", window=(4, 4), stop_after=None, **options):
    """All cells [V, F, C, size, size] and the store."""
    views = window[0] if inside else window[0] - 1
    problem = Problem(V, F, views, window[1], input_row(F), inside=inside)
    plan = make_plan(name, problem)
    model = GaussianModel(V, F, views, window[1], inside, kind=kind, size=size)
    settings = Settings(make_schedule(kind, 24, sigma_max=80.0), "heun", seed=seed, **options)
    store = CellStore(folder, plan)
    # Inputs are drawn from the field itself, so that each cell's marginal over many pixels is known.
    root = torch.linalg.cholesky(torch.from_numpy(covariance(V, F)[:F, :F]))
    noise = torch.stack([torch.randn(size * size, generator=torch.Generator().manual_seed(99 + f)) for f in range(F)])
    for frame, row in enumerate(root @ noise.double()):
        store.put_given((0, frame), row.reshape(1, size, size).float())
    finished = []
    for number, window_done in enumerate(run_plan(plan, model, store, regular_orbit(V, F), settings)):
        finished.append(window_done.index)
        if stop_after is not None and number + 1 == stop_after:
            return finished, store
    cells = torch.stack([store.read([(view, frame) for frame in range(F)]) for view in range(V)])
    return cells, finished


SHRINKING = ("anchors-linear", "anchors-flow")  # a mean of anchors varies less than they do
MARGINALS = [(name, inside) for name in PLANS if name not in ("joint", *SHRINKING) for inside in (True, False)]
# Beside the grid SV4D's plans alternate, which no exact denoiser makes exact: see test_alternation.py.
MARGINALS = [case for case in MARGINALS if case not in (("sv4d", False), ("sv4d-apart", False))]


@pytest.mark.parametrize(("name", "inside"), MARGINALS)
def test_every_plan_gives_the_same_marginal_per_cell(name, inside, tmp_path):
    cells, _ = sample(tmp_path, name, inside, size=80)
    variance = cells.double().flatten(2).pow(2).mean(-1)
    expected = torch.from_numpy(covariance(V, F).diagonal().copy()).reshape(V, F)
    # 6400 pixels: one standard error of a variance is 1.8 %.
    assert ((variance / expected - 1).abs() < 0.07).all(), variance / expected


@pytest.mark.parametrize("inside", [True, False])
def test_the_joint_plan_gives_the_fields_covariance(inside, tmp_path):
    cells, _ = sample(tmp_path, "joint", inside, size=96, window=(V, F))
    rows = cells.double().reshape(V * F, -1)
    measured = rows @ rows.T / rows.shape[1]
    assert (measured - torch.from_numpy(covariance(V, F))).abs().max() < 0.07


def test_alternating_directions_keep_the_mean_and_shrink_the_spread(tmp_path):
    """A whole alternating run: the means agree, the anchor stage is exact, between anchors the spread is too small."""
    cells, _ = sample(tmp_path, "sv4d", False, size=96)
    flat = cells.double().flatten(2)
    ratio = flat.pow(2).mean(-1) / torch.from_numpy(covariance(V, F).diagonal().copy()).reshape(V, F)
    assert flat.mean(-1).abs().max() < 0.05
    assert (ratio < 1.07).all()
    assert (ratio > 0.78).all(), ratio
    assert ratio[1:].min() < 0.93


def test_seed_decides_and_nothing_else(tmp_path):
    one, _ = sample(tmp_path / "a", "independent", False, size=8)
    batched, _ = sample(tmp_path / "b", "independent", False, size=8, batch_windows=8)
    other, _ = sample(tmp_path / "c", "independent", False, size=8, seed=1)
    assert (one - batched).abs().max() < 1e-5
    assert (one - other)[1:].abs().max() > 0.1


@pytest.mark.parametrize("name", ["sv4d", "sv4d2", "autoregressive"])
def test_an_interrupted_run_goes_on_where_it_stopped(name, tmp_path):
    whole, order = sample(tmp_path / "whole", name, True, size=8)
    begun, store = sample(tmp_path / "cut", name, True, size=8, stop_after=2)
    resumed, rest = sample(tmp_path / "cut", name, True, size=8)
    assert begun + rest == order
    assert torch.equal(whole, resumed)
    assert store.finished(store.plan.windows[begun[-1]])


def test_a_store_of_other_options_is_thrown_away_and_said_to_be(tmp_path, caplog):
    _, store = sample(tmp_path / "s", "sv4d2", True, size=8, stop_after=1)
    store.start({"seed": 0})
    assert "another input, other options or an earlier version: sampling anew" in caplog.text
    assert not any(store.finished(window) for window in store.plan.windows)
    sample(tmp_path / "s", "sv4d2", True, size=8, stop_after=1)
    assert store.start({"seed": 0})
    assert not store.start({"seed": 1})


def test_out_of_memory_says_what_to_turn(tmp_path, monkeypatch):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("gaussian_model.GaussianDenoiser.__call__", fail)
    with pytest.raises(UserError, match=r"--memory.batch-windows 1.*--memory.offload.*--views"):
        sample(tmp_path, "sv4d2", True, size=8, batch_windows=2)


def test_noise_belongs_to_its_cell():
    all_cells = cell_noise(3, range(4), range(5), (2, 3))
    part = cell_noise(3, (2,), (4, 1), (2, 3))
    assert torch.equal(part[0, 0], all_cells[2, 4])
    assert torch.equal(part[0, 1], all_cells[2, 1])
    assert not torch.equal(cell_noise(3, (2,), (4,), (2, 3), draw=1), part[:, :1])
    assert (
        len({cell_seed(0, 0, 0), cell_seed(1, 0, 0), cell_seed(0, 1, 0), cell_seed(0, 0, 1), cell_seed(0, 0, 0, 1)})
        == 5
    )


def test_shared_noise_is_that_of_the_first_frame_in_every_frame_and_fresh_for_cells_that_are_sampled_again():
    own = cell_noise(3, range(3), range(4), (2, 3))
    shared = cell_noise(3, range(3), (2, 0, 3), (2, 3), shared=True)
    assert torch.equal(shared, own[:, :1].expand(-1, 3, -1, -1))
    again = cell_noise(3, (1,), (0, 1), (2, 3), lambda view, frame: frame, shared=True)
    assert torch.equal(again[0, 0], own[1, 0])
    assert torch.equal(again[0, 1], cell_noise(3, (1,), (0,), (2, 3), draw=1)[0, 0])
    assert not torch.equal(again[0, 0], again[0, 1])


def test_a_step_cache_saves_evaluations_and_stays_close(tmp_path):
    exact, _ = sample(tmp_path / "a", "sv4d2", True, size=16)
    cached, _ = sample(tmp_path / "b", "sv4d2", True, size=16, cache="steps")
    difference = (exact - cached)[1:]
    assert 0 < difference.pow(2).mean().sqrt() < 0.1
    cache = StepCache("steps", 24)
    assert sum(cache.skips(step) for step in range(24)) == 8


@pytest.mark.parametrize(
    ("plan", "asked", "frames", "kind"),
    [
        ("joint", None, 3, "joint"),
        ("joint", None, 4, "sv4d2"),
        ("joint", "joint", 3, "joint"),
        ("sv4d", None, 4, "sv4d"),
    ],
)
def test_a_long_video_slides_where_the_models_own_plan_is_joint(plan, asked, frames, kind):
    traits = ModelTraits("x", window_views=3, window_frames=3, size=8, channels=3, plan=plan)
    given = frozenset((0, frame) for frame in range(frames))
    assert settle_plan(traits, 2, frames, given, PlanOptions(kind=asked)).name == kind


def test_all_frames_at_once_are_not_more_than_a_window():
    traits = ModelTraits("x", window_views=3, window_frames=3, size=8, channels=3)
    with pytest.raises(UserError):
        settle_plan(traits, 2, 4, frozenset((0, frame) for frame in range(4)), PlanOptions(kind="joint"))
