"""Published trajectories and SV4D's dense stage through the public runner: plan, guidance, sampler, store."""

import pytest
import torch
from golden_models import GoldenModel, both_branches, golden

from viewtime.cameras import regular_orbit
from viewtime.sample.plan.plan import Direction, Plan, Problem, Window, input_row
from viewtime.sample.run.runner import Settings, run_plan
from viewtime.sample.run.store import CellStore
from viewtime.sample.solver.guidance import Guidance
from viewtime.sample.solver.schedules import make_schedule

GUIDERS = {
    "sv4d": Guidance("spatio-temporal", 1.0, 2.0),
    "sv4d2": Guidance("linear", 1.0, 2.0),
    "sv4d2_8views": Guidance("spatio-temporal", 1.5, 2.5),
    "sv3d_p": Guidance("triangle", 1.0, 2.5),
    "svd": Guidance("linear", 1.5, 3.0),
}


def run(folder, plan, model, guidance, steps, noise):
    """The sampled rectangle of the plan's only window, [V, F, C, h, w]."""
    problem = plan.problem
    store = CellStore(folder, plan)
    for cell in problem.given:
        store.put_given(cell, torch.zeros(model.latent_shape()))
    settings = Settings(
        make_schedule("edm", steps), guidance=guidance, noise=lambda seed, views, frames, shape, draw: noise
    )
    cameras = regular_orbit(problem.views, problem.frames)
    assert [window.index for window in run_plan(plan, model, store, cameras, settings)] == [0]
    (window,) = plan.windows
    return torch.stack([store.read([(view, frame) for frame in window.frames]) for view in window.views])


@pytest.mark.parametrize("name", list(GUIDERS))
def test_trajectory(name, tmp_path):
    data = golden.arrays(f"traj_{name}")
    views = int(data["V"]) if "V" in data else (len(data["noise"]) if name == "sv3d_p" else 1)
    noise = golden.to_grid(name, data["noise"], views, 1)[0]
    frames = noise.shape[1]
    model = GoldenModel(name, views, frames, tuple(noise.shape[2:]), {"": both_branches(name, data, views)})
    rows, columns = tuple(range(1, views + 1)), tuple(range(frames))
    problem = Problem(views + 1, frames, views, frames, input_row(frames), inside=False)
    sampled = frozenset((view, frame) for view in rows for frame in columns)
    direction = Direction("", columns, tuple((0, frame) for frame in columns))
    plan = Plan("golden", problem, (Window(0, "window", rows, columns, sampled, (direction,)),))
    plan.check()
    guidance = GUIDERS[name]
    expected_scale = golden.to_grid(name, data["guider_scale"], views, 1)[0]
    torch.testing.assert_close(guidance.scale(views, frames), expected_scale)
    schedule = make_schedule("edm", len(data["sigmas"]) - 1)
    torch.testing.assert_close(schedule.sigmas, data["sigmas"], rtol=1e-6, atol=0)
    out = run(tmp_path, plan, model, guidance, schedule.steps, noise)
    expected = golden.to_grid(name, data["out"], views, 1)[0]
    assert (out - expected).abs().max() < 5e-5


def test_dense_stage(tmp_path):
    """Steps alternate between the backward (even) and the forward (odd) conditioning of one window."""
    data = golden.arrays("dense_sv4d")
    frames = tuple(data["forward_frame_indices"].tolist())
    views = tuple(data["view_indices"].tolist())
    matrix = data["latent_matrix_init"]  # [F, V, 4, h, w]
    total_frames, total_views = matrix.shape[:2]
    conditions = {
        "forward": both_branches("sv4d", data, len(views), "F_"),
        "backward": both_branches("sv4d", data, len(views), "B_"),
    }
    model = GoldenModel("sv4d", len(views), len(frames), tuple(matrix.shape[2:]), conditions)
    problem = Problem(total_views, total_frames, len(views), len(frames), input_row(total_frames), inside=False)
    directions = (
        Direction("backward", frames[::-1], tuple((0, frame) for frame in frames[::-1])),
        Direction("forward", frames, tuple((0, frame) for frame in frames)),
    )
    sampled = frozenset((view, frame) for view in views for frame in frames)
    noise = torch.stack([matrix[list(frames), view] for view in views])
    window = Window(0, "dense", views, frames, sampled, directions)
    plan = Plan("dense", problem, (window,))
    out = run(tmp_path, plan, model, Guidance("spatio-temporal", 1.0, 2.0), len(data["sigmas"]) - 1, noise)
    final = data["latent_matrix_steps"][-1]
    expected = torch.stack([final[list(frames), view] for view in views])
    assert (out - expected).abs().max() < 5e-5
