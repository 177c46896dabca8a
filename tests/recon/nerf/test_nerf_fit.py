"""Fits of small analytic scenes by the dynamic NeRF: quality, both deformations, resuming, assets, odd grids."""

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch
from scenes import training_grid, unseen_grid

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, MeshOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_nerf import NerfLossWeights, NerfOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.recon.command import write_asset
from viewtime.recon.fitting.loop import restore
from viewtime.recon.fitting.score import scores
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.nerf.asset import NerfAsset
from viewtime.recon.nerf.fit import NerfFit
from viewtime.recon.nerf.occupancy import Occupancy
from viewtime.recon.nerf.reconstruct import bake_nerf, fit_nerf

SMALL = {
    "levels": 6, "finest_resolution": 64, "log2_table": 14, "occupancy_resolution": 48, "start_size": 24,
    "rays_per_cell": 32, "occupancy_every": 50, "remainder_resolution": 16,
}  # fmt: skip


def config(static=150, dynamic=150, imperfect=None, weights=None, mesh=False, **options):
    nerf = NerfOptions(
        **{**SMALL, **options}, static_iterations=static, dynamic_iterations=dynamic,
        weights=weights or NerfLossWeights(),
    )  # fmt: skip
    return ReconstructConfig(
        Path("grid"), method="nerf", nerf=nerf, imperfect=imperfect or ImperfectOptions(), orbit_seconds=0.3,
        mesh=MeshOptions(enabled=mesh, resolution=48, faces=800, refine_iterations=2),
        gaussians=GaussianOptions(count=300, control_points=40, static_iterations=30, dynamic_iterations=40),
    )  # fmt: skip


@pytest.fixture(scope="module")
def grid():
    return training_grid(6, 3, 48)


def rendered_scores(fit, train, grid):
    return scores(bake_nerf(fit, train).render_grid(grid.cameras, *grid.shape[3:]), grid)


def test_static_stage_learns_a_still_scene():
    """One frame, seen from between the training views."""
    train = training_grid(6, 1, 48)
    fit, _ = fit_nerf(train, config(static=200, dynamic=1))
    unseen = unseen_grid(1, 48)
    found = rendered_scores(fit, train, unseen)
    assert found["psnr"] > 27.5
    assert found["iou"] > 0.93


@pytest.mark.parametrize("options", [{}, {"deformation": "mlp", "remainder_features": 0}, {"curriculum": True}])
def test_dynamic_stage_follows_the_motion(grid, options):
    fit, _ = fit_nerf(grid, config(100, 200, **options))
    unseen = unseen_grid(3, 48)
    moving = rendered_scores(fit, grid, unseen)
    asset = bake_nerf(fit, grid)
    assert unseen.cameras is not None
    still = asset.render_grid(unseen.cameras[:, [0]], 48, 48).frames.expand_as(unseen.frames)
    frozen = scores(dataclasses.replace(unseen, frames=still), unseen)
    assert moving["psnr"] > 25.5
    assert moving["psnr"] > frozen["psnr"] + 1.0


def test_resumed_fit_equals_one_that_was_not_interrupted(grid, tmp_path):
    options = config(6, 14, occupancy_every=4)
    targets = make_targets(grid)
    whole = NerfFit(targets, options)
    for step in range(16):
        if step == 9:
            whole.save(tmp_path / "state.pt")
        whole.step()
    resumed = NerfFit(targets, options)
    resumed.restore(tmp_path / "state.pt")
    for _ in range(7):
        resumed.step()
    assert resumed.progress == whole.progress
    torch.testing.assert_close(resumed.field.canonical.table, whole.field.canonical.table, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match=r"is damaged .* --no-resume"):
        restore(NerfFit(targets, config(6, 14, levels=5)), tmp_path / "state.pt")


def test_command_writes_an_asset_that_loads_and_its_mesh(grid, tmp_path):
    options = dataclasses.replace(config(60, 60, mesh=True), held_out=(2,))
    paths = write_asset(grid, options, tmp_path / "asset")
    assert {path.name for path in paths} == {
        "asset.json", "nerf.safetensors", "grid", "preview.png", "asset.glb", "gaussians", "orbit.mp4", "depth.mp4",
        "normal.mp4", "view_0.mp4", "metrics.json",
    }  # fmt: skip
    assert all(path.exists() for path in paths)
    record = json.loads((tmp_path / "asset" / "metrics.json").read_text())
    assert record["held_out"]["psnr"] > 20
    assert FrameGrid.load(tmp_path / "asset" / "grid").shape[:2] == (6, 3)
    assert GaussianAsset.load(tmp_path / "asset").frames == 3
    asset = NerfAsset.load(tmp_path / "asset")
    held = grid[[2]]
    again = scores(asset.render_grid(held.cameras, 48, 48), held)
    assert again["psnr"] == pytest.approx(record["held_out"]["psnr"], abs=0.05)


def test_time_between_two_frames_lies_between_them(grid):
    fit, _ = fit_nerf(grid, config(60, 100))
    asset = bake_nerf(fit, grid)
    views = make_targets(grid).views[torch.zeros(3, dtype=torch.long)]
    first, middle, second = asset.render(views, [0.0, 0.5, 1.0], with_depth=True).alpha
    assert float((first - second).abs().mean()) > 0.002
    near = torch.maximum((middle - first).abs().mean(), (middle - second).abs().mean())
    assert float(near) < 1.2 * float((first - second).abs().mean())


def test_annealing_opens_temporal_octaves_from_low_to_high(grid):
    fit = NerfFit(make_targets(grid), config(deformation="mlp", time_octaves=4))
    deformation = fit.field.deformation
    windows = []
    for share in (0.0, 0.25, 1.0):
        deformation.anneal(share)
        windows.append(deformation.window())
    torch.testing.assert_close(windows[0], torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(windows[1], torch.tensor([1.0, 1.0, 0.5, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(windows[2], torch.ones(4))
    torch.nn.init.normal_(deformation.last.weight)
    points, slot = torch.rand(20, 3), torch.zeros(20, dtype=torch.long)
    deformation.anneal(0.0)
    slow = [deformation.at(torch.tensor([t]))(points, slot) for t in (1.0, 1.02)]
    deformation.anneal(1.0)
    fast = [deformation.at(torch.tensor([t]))(points, slot) for t in (1.0, 1.02)]
    assert (fast[1] - fast[0]).norm() > 1.5 * (slow[1] - slow[0]).norm()


def test_all_losses_and_remedies_work_together(grid, tmp_path):
    towards = torch.tensor([0.5, 0.5, 1.0]).expand(48, 48, 3).numpy()
    for view in range(6):
        for frame in range(3):
            write_image(tmp_path / f"view_{view:03d}" / f"frame_{frame:03d}.png", towards)
    weights = NerfLossWeights(normal=0.01, depth=0.01, bilateral=0.05)
    every = ImperfectOptions(offset=True, exposure=True, robust=True)
    options = config(40, 40, every, weights, patches_per_step=8, normals=tmp_path)
    fit, _ = fit_nerf(grid, options)
    assert fit.progress.psnr > 18
    assert fit.compensation.shift.abs().max() > 0
    assert torch.isfinite(fit.field.canonical.table).all()


def test_losses_that_lack_something_say_so(grid, tmp_path):
    targets = make_targets(grid)
    with pytest.raises(UserError, match="patches-per-step"):
        NerfFit(targets, config(weights=NerfLossWeights(depth=1.0)))
    with pytest.raises(UserError, match=r"nerf\.normals"):
        NerfFit(targets, config(weights=NerfLossWeights(normal=1.0), patches_per_step=4))
    with pytest.raises(UserError, match="no normal map"):
        NerfFit(targets, config(weights=NerfLossWeights(normal=1.0), patches_per_step=4, normals=tmp_path))
    with pytest.raises(UserError, match="at least 32"):
        NerfFit(targets, config(weights=NerfLossWeights(lpips=1.0), patches_per_step=4))
    with pytest.raises(UserError, match="view-deformation"):
        NerfFit(targets, config(imperfect=ImperfectOptions(view_deformation=True)))


def test_views_between_the_training_views():
    cameras = training_grid(4, 1, 16).cameras
    assert cameras.with_middles().azimuth[:, 0].tolist() == [0, 90, 180, 270, 45, 135, 225, 315]


def changed(grid, frames=None, cameras=None):
    return FrameGrid(grid.frames if frames is None else frames, grid.known, cameras or grid.cameras, 12.0)


def test_damaged_cells_are_left_out(grid):
    frames = grid.frames.clone()
    frames[0, 0, :, 5, 5] = float("nan")
    frames[1, 2, 3] = 0
    fit, _ = fit_nerf(changed(grid, frames), config(5, 5))
    assert all(torch.isfinite(value).all() for value in fit.field.state_dict().values())
    assert fit.occupancy.tolerance == 0


def test_views_that_disagree_are_noticed(grid, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    targets = make_targets(changed(grid, cameras=regular_orbit(6, 3, azimuth_range=90.0, elevation=60.0)))
    said = ""
    with caplog.at_level("WARNING", logger="viewtime"):
        try:
            Occupancy.of(targets, 32, 1.0)
        except UserError as error:
            said = str(error)
    assert "views disagree" in said + caplog.text or "too little volume" in said + caplog.text


def test_an_object_cut_by_the_edge_of_the_picture_still_fits(grid):
    assert grid.cameras is not None
    near = dataclasses.replace(grid.cameras, fov_y=grid.cameras.fov_y * 0.5)
    middle = FrameGrid(grid.frames[..., 12:36, 12:36], grid.known, near, 12.0)
    fit, _ = fit_nerf(middle, config(20, 20, start_size=12))
    assert bool(fit.occupancy.possible.any())
    assert torch.isfinite(fit.field.canonical.table).all()
