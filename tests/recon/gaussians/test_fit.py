"""Fits of a small analytic scene: better than doing nothing, resumable, and sane on degenerate grids."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import training_grid, unseen_grid

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.reconstruct import (
    GaussianOptions,
    ImperfectOptions,
    InitOptions,
    MeshOptions,
    ReconstructConfig,
)
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.command import write_asset
from viewtime.recon.fitting.hull import voting_hull
from viewtime.recon.fitting.schedule import Schedule
from viewtime.recon.fitting.score import scores
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.compensation import Compensation
from viewtime.recon.gaussians.fit import GaussianFit
from viewtime.recon.gaussians.initialise import first_gaussians
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.render.renderer import render
from viewtime.recon.render.splats import Viewpoints


@pytest.fixture(scope="module")
def grid():
    return training_grid(6, 3, 48)


def config(static=60, dynamic=100, imperfect=None, **options):
    chosen = {"count": 500, "control_points": 60, **options}
    gaussians = GaussianOptions(**chosen, static_iterations=static, dynamic_iterations=dynamic)
    return ReconstructConfig(
        Path("grid"), gaussians=gaussians, imperfect=imperfect or ImperfectOptions(), orbit_seconds=0.5
    )


def test_hull_holds_the_object_and_little_more(grid):
    targets = make_targets(grid)
    cells = targets.cell(torch.arange(6), torch.tensor(0))
    hull = voting_hull(targets.images[:, 0, 3], targets.views[cells], targets.reach, 64)
    volume = float(hull.inside.sum()) * hull.spacing**3
    truth = 4 / 3 * 3.14159 * (0.16**2 * 0.34 + 0.1 * 0.11 * 0.12 + 2 * 0.06**2 * 0.16)
    assert hull.tolerance == 0
    assert hull.coverage > 0.97
    assert 0.95 * truth < volume < 1.7 * truth


def test_command_writes_an_asset_better_than_a_still_one(grid, tmp_path):
    paths = write_asset(grid, config(), tmp_path / "asset")
    assert {path.name for path in paths} == {
        "asset.json", "gaussians.safetensors", "mesh.safetensors", "asset.glb", "orbit.mp4", "preview.png",
        "metrics.json",
    }  # fmt: skip
    assert all(path.is_file() for path in paths)
    record = json.loads((tmp_path / "asset" / "metrics.json").read_text())
    asset = GaussianAsset.load(tmp_path / "asset")
    unseen = unseen_grid(3, 48)
    assert unseen.cameras is not None
    moving = scores(asset.render_grid(unseen.cameras, 48, 48), unseen)
    still = dataclasses.replace(asset, means=asset.means[:1].expand_as(asset.means))
    frozen = scores(still.render_grid(unseen.cameras, 48, 48), unseen)
    assert moving["psnr"] > 26
    assert moving["iou"] > 0.9
    assert moving["psnr"] > frozen["psnr"] + 1.5
    assert record["mesh"]["train_iou"] > 0.9


@pytest.mark.parametrize("motion", ["mlp", "free"])
def test_other_motion_models_fit_too(grid, motion):
    fit, _ = fit_gaussians(grid, config(60, 100, motion=motion))
    moving = bake(fit, grid)
    still = dataclasses.replace(moving, means=moving.means[:1].expand_as(moving.means))
    assert grid.cameras is not None
    moved, frozen = (scores(asset.render_grid(grid.cameras, 48, 48), grid)["psnr"] for asset in (moving, still))
    assert moved > frozen + 1.0


def test_anisotropic_gaussians_with_all_remedies_fit(grid):
    every = ImperfectOptions(True, True, True, True, True, two_stage=True)
    fit, _ = fit_gaussians(grid, config(80, 120, imperfect=every, isotropic=False))
    assert fit.progress.psnr > 19  # 19.8 dB after the second stage's 100 steps; it starts grey


def test_resumed_fit_equals_one_that_was_not_interrupted(grid, tmp_path):
    options = config(6, 12)
    targets = make_targets(grid)
    whole = GaussianFit(targets, first_gaussians(targets, options), options)
    for step in range(14):
        if step == 9:
            whole.save(tmp_path / "state.pt")
        whole.step()
    resumed = GaussianFit(targets, first_gaussians(targets, options), options)
    resumed.restore(tmp_path / "state.pt")
    for _ in range(5):
        resumed.step()
    assert resumed.progress == whole.progress
    torch.testing.assert_close(resumed.gaussians.position, whole.gaussians.position, rtol=0, atol=1e-6)


def test_compensation_recovers_a_shift_of_one_view(grid):
    frames = grid.frames.clone()
    frames[2] = torch.roll(frames[2], shifts=1, dims=-1)
    shifted = FrameGrid(frames, grid.known, grid.cameras, grid.fps)
    fit, _ = fit_gaussians(shifted, config(150, 100, imperfect=ImperfectOptions(offset=True)))
    shift = fit.compensation.shift.detach().reshape(6, 3, 2).mean(dim=1)
    assert float(shift[2, 0] - shift[[0, 1, 3, 4, 5], 0].mean()) > 0.3


def test_pictures_are_corrected_by_what_was_learned(grid):
    """Drawn with a known shift, zoom and gain and corrected by them, pictures are as drawn without."""
    compensation = Compensation(ImperfectOptions(offset=True, exposure=True), 6, 3, torch.zeros(4, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter, size in ((compensation.shift, 1.0), (compensation.log_zoom, 0.03), (compensation.log_gain, 0.1)):
        parameter.data = size * torch.randn(parameter.shape, generator=generator)
    views = Viewpoints.of(grid.cameras, 48, 48)
    points = 0.2 * torch.randn(60, 3, generator=generator).clamp(-1.5, 1.5)
    paint = 0.2 + 0.6 * torch.rand(1, 60, 3, generator=generator)

    def drawn(cameras):
        return render(
            points.expand(18, -1, -1), torch.full((1, 60, 1), 0.05**2), torch.full((1, 60), 0.7), paint, cameras
        )

    cells = torch.arange(18)
    plain, bent = drawn(views), drawn(compensation.views(views, cells))
    bent_rgb = compensation.expose(bent.rgb, bent.alpha, cells)
    images = torch.cat([bent_rgb, bent.alpha], dim=1).detach().unflatten(0, (6, 3))
    wanted = torch.cat([plain.on(1.0), plain.alpha], dim=1).unflatten(0, (6, 3))
    corrected = compensation.correct(images, views)
    assert (images - wanted).abs().mean() > 0.03
    assert (corrected - wanted).abs().mean() < 0.003


def test_two_stages_need_something_to_correct(grid):
    with pytest.raises(UserError, match="offset"):
        fit_gaussians(grid, config(4, 4, imperfect=ImperfectOptions(two_stage=True)))


@pytest.mark.parametrize("motion", ["control_points", "free"])
def test_tracks_of_the_user_start_the_motion(grid, tmp_path, motion):
    """Without a single dynamic step the Gaussians already move as the tracks do."""
    points = 0.2 * torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    tracks = points + torch.tensor([0.0, 0.0, 0.05]) * torch.arange(3)[:, None, None]
    np.savez(tmp_path / "tracks.npz", tracks=tracks.numpy())
    options = dataclasses.replace(
        config(5, 1, motion=motion), init=InitOptions(source="points", points=tmp_path / "tracks.npz")
    )
    targets = make_targets(grid)
    fit = GaussianFit(targets, first_gaussians(targets, options), options)
    assert len(fit.gaussians) == 300
    fit.start_motion()
    means = bake(fit, grid).means
    torch.testing.assert_close(means[2] - means[0], torch.tensor([0.0, 0.0, 0.1]).expand(300, 3), atol=1e-4, rtol=0)
    np.savez(tmp_path / "tracks.npz", tracks=tracks[:2].numpy())
    with pytest.raises(UserError, match="tracks over 2 frames; this grid has 3"):
        fit.start_motion()


def test_frames_enter_one_by_one():
    schedule = Schedule(9, 1000)
    counts = [schedule.entered(i) for i in range(0, 1000, 10)]
    assert counts[0] == 2
    assert counts[40] == 9
    assert sorted(counts) == counts
    assert schedule.rate(0) == 1.0
    assert schedule.rate(1000) == pytest.approx(0.05)
    assert Schedule(9, 1000, curriculum=False).entered(0) == 9


def damaged(grid, **changes):
    return FrameGrid(**{"frames": grid.frames, "known": grid.known, "cameras": grid.cameras, "fps": 12.0, **changes})


def test_degenerate_grids_say_what_is_wrong(grid):
    with pytest.raises(UserError, match="no cameras"):
        make_targets(damaged(grid, cameras=None))
    with pytest.raises(UserError, match="at least 2"):
        make_targets(grid[[0]])
    with pytest.raises(UserError, match="every cell is empty"):
        make_targets(damaged(grid, frames=torch.ones(6, 3, 3, 48, 48)))
    frames = grid.frames.clone()
    frames[:, 1, 3] = 0
    with pytest.raises(UserError, match=r"frames \[1\]"):
        make_targets(damaged(grid, frames=frames))


def test_nan_and_empty_cells_are_left_out(grid):
    frames = grid.frames.clone()
    frames[0, 0, :, 5, 5] = float("nan")
    frames[1, 2, 3] = 0
    targets = make_targets(damaged(grid, frames=frames))
    assert int(targets.usable.sum()) == 16
    assert not targets.usable[[0, 1], [0, 2]].any()
    assert torch.isfinite(targets.images).all()
    fit, _ = fit_gaussians(damaged(grid, frames=frames), config(10, 10))
    assert torch.isfinite(fit.gaussians.position).all()


def test_wrong_cameras_are_noticed(grid, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    assert _message_of_failure(make_targets(grid)) + caplog.text == ""
    wrong = regular_orbit(6, 3, azimuth_range=90.0, elevation=60.0)
    with caplog.at_level("WARNING", logger="viewtime"):
        noticed = _message_of_failure(make_targets(damaged(grid, cameras=wrong))) + caplog.text
    assert "views disagree" in noticed or "cameras" in noticed


def _message_of_failure(targets):
    try:
        first_gaussians(targets, config())
    except UserError as error:
        return str(error)
    return ""


def test_a_single_frame_gives_a_still_asset(grid):
    fit, _ = fit_gaussians(grid[:, [0]], config(30, 10))
    assert bake(fit, grid[:, [0]]).means.shape[0] == 1


def test_mesh_options_can_switch_the_mesh_off(grid, tmp_path):
    options = dataclasses.replace(config(10, 10), mesh=MeshOptions(enabled=False))
    assert "asset.glb" not in {path.name for path in write_asset(grid, options, tmp_path / "a")}


def test_splitting_gaussians_where_the_gradient_is_large_pays(grid):
    """Started with too few, the fit with two rounds of splitting is better than the one without."""
    plain, split = (fit_gaussians(grid, config(60, 200, count=80, densify=rounds))[0] for rounds in (0, 2))
    assert len(split.gaussians) == round(1.2 * round(1.2 * len(plain.gaussians)))
    scored = [scores(bake(fit, grid).render_grid(grid.cameras, 48, 48), grid)["psnr"] for fit in (plain, split)]
    assert scored[1] > scored[0] + 0.3
