"""The command on an analytic scene: background and ball from cameras that stand anywhere, views that disagree."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from walls import cameras, scene

from viewtime.configs.schema.reconstruct import GaussianOptions, InitOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.command import write_asset
from viewtime.recon.export.films import orbit_cameras
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.canonical import Gaussians
from viewtime.recon.gaussians.fit import GaussianFit
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.scene import start
from viewtime.recon.scene.frame_points import canonical_points
from viewtime.recon.scene.lift import in_frames
from viewtime.recon.scene.reconstruct import fit_scene, rendered_like, targets_of, whole_pictures
from viewtime.recon.scene.start import Pictures, tracked_points
from viewtime.recon.surface.mesh import extract_mesh
from viewtime.recon.view_command import make_page

SIZE = (32, 48)


@pytest.fixture(scope="module")
def grid():
    return scene(cameras(7, 3), *SIZE)[0]


def config(static=30, dynamic=60, held_out=(3,), scene_options=None, **options):
    gaussians = GaussianOptions(
        count=1500, isotropic=True, control_points=40, static_iterations=static, dynamic_iterations=dynamic, **options
    )
    return ReconstructConfig(
        Path("grid"), method="scene", gaussians=gaussians, held_out=held_out, orbit_seconds=0.2,
        scene=scene_options or SceneOptions(opacity_iterations=20),
    )  # fmt: skip


def test_the_command_writes_a_scene_that_shows_unseen_views_and_the_motion(grid, tmp_path):
    paths = write_asset(grid, config(), tmp_path / "asset")
    names = {"asset.json", "gaussians.safetensors", "path.mp4", "preview.png", "metrics.json"}
    assert {path.name for path in paths} == names
    assert all(path.is_file() for path in paths)
    record = json.loads((tmp_path / "asset" / "metrics.json").read_text())
    assert set(record["held_out"]) >= {"psnr", "ssim", "flicker"}
    assert record["held_out"]["psnr"] > 26
    asset = GaussianAsset.load(tmp_path / "asset")
    assert (asset.means[0] - asset.means[-1]).norm(dim=1).max() > 0.2  # the ball
    assert ((asset.means[0] - asset.means[-1]).norm(dim=1) == 0).float().mean() > 0.5  # the walls
    path = orbit_cameras(asset.info, 5).camera_to_world()[0]
    torch.testing.assert_close(path[0], torch.tensor(asset.info["path"][0]), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="no closed surface"):
        extract_mesh(asset)
    assert make_page(tmp_path / "asset", tmp_path / "page.html", 100).stat().st_size > 5000


def planted_shift(views: int) -> torch.Tensor:
    """Pixels [V, 2] (x, y), zero on average."""
    shift = torch.randn(views, 2, generator=torch.Generator().manual_seed(3))
    return 0.8 * (shift - shift.mean(0))


def bend(grid: FrameGrid) -> FrameGrid:
    """Every view's pictures show what lies by its own shift beside them, all of its frames alike."""
    V = len(grid.frames)
    theta = torch.eye(2, 3).repeat(V, 1, 1)
    theta[:, :, 2] = 2 * planted_shift(V) / torch.tensor([SIZE[1], SIZE[0]])
    flat = rearrange(grid.frames, "v f c h w -> v (f c) h w")
    places = F.affine_grid(theta, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, places, padding_mode="reflection", align_corners=False)
    return dataclasses.replace(grid, frames=moved.view_as(grid.frames))


def test_delta_p_of_a_view_is_its_planted_shift():
    """Tracked and lifted from the pictures alone; the median over the points, in pixels at their depth."""
    grid = bend(scene(cameras(6, 3), *SIZE)[0])
    points, moving = tracked_points(Pictures.of(grid, 0.06), grid.orbit, config())
    assert 0.02 < moving.float().mean() < 0.4
    matrices = grid.orbit.camera_to_world()[:, 0]
    position, offset = canonical_points(points, matrices, "agreed")
    views = Viewpoints.of(grid.orbit[:, :1], *SIZE)
    there, here = (
        torch.stack([in_frames(p, w[None])[0] for p, w in zip(place, views.world_to_camera)])
        for place in (position + offset, position.expand_as(offset))
    )
    moved = (there[..., :2] / there[..., 2:] - here[..., :2] / here[..., 2:]) * views.focal[:, None, None]
    # What cameras and depth can explain is no inconsistency: a shift along the row of cameras turns into depth.
    torch.testing.assert_close(moved.median(dim=1).values[:, 1], -planted_shift(6)[:, 1], atol=0.35, rtol=0)


def test_a_fit_without_background_holds_what_moves_alone(grid):
    told = SceneOptions(background=False, opacity_iterations=0)
    asset, train, _ = fit_scene(grid[[0, 2, 4, 6]], None, config(10, 20, (), told))
    alpha = asset.render_grid(train.orbit, *SIZE).frames[:, :, 3]
    changed = Pictures.of(train, told.still_threshold).changed
    assert alpha[changed].mean() > 0.6
    assert alpha[~changed].mean() < 0.15


def test_gaussians_that_do_not_move_stay_and_offsets_belong_to_their_view(grid):
    """The fit's own pose against Eq. 11 written out, before and after Gaussians are dropped."""
    count, V = 50, 7
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        torch.rand(count, 3, generator=g) - 0.5, torch.full((count,), 0.05), torch.rand(count, 3), True
    )
    gaussians.moving = torch.arange(count) % 2 == 0
    gaussians.view_offset = 0.1 * torch.randn(count, V, 3, generator=g)
    pictures = Pictures.of(grid, 0.06)
    fit = GaussianFit(targets_of(grid, pictures, True), gaussians, config(0, 10, motion="free"))
    fit.start_motion()
    assert fit.motion is not None
    fit.motion.displacement.data = torch.randn(count, 3, 3, generator=g)  # type: ignore[union-attr]
    frames, views = torch.tensor([0, 2]), torch.tensor([1, 4, 0, 6])  # views 1 and 4 of frame 0, 0 and 6 of frame 2
    for kept in (torch.arange(count), torch.arange(5, 40, 3)):
        fit.keep(kept)
        means, _, _ = fit.pose(frames, views)
        p, moves = fit.gaussians.position, fit.gaussians.moving
        for row, (view, frame) in enumerate([(1, 0), (4, 0), (0, 2), (6, 2)]):
            in_time = fit.motion.displacement[:, frame] * moves[:, None]
            torch.testing.assert_close(means[row], p + fit.gaussians.view_offset[:, view] + in_time)
        count = len(kept)


def test_broken_grids_are_refused_in_one_line(grid, tmp_path):
    holes = grid.frames.clone()
    holes[2, 1, 0, 4, 4] = float("nan")
    with pytest.raises(UserError, match=r"1 of 21 cells .*view 2, frame 1"):
        whole_pictures(dataclasses.replace(grid, frames=holes))
    with pytest.raises(UserError, match="at least 2"):
        whole_pictures(grid[[0]])
    with pytest.raises(UserError, match="--preset scene"):
        make_targets(grid)
    with pytest.raises(UserError, match="a scene starts from its tracks"):
        write_asset(grid, dataclasses.replace(config(), init=InitOptions(source="random")), tmp_path / "asset")
    still = dataclasses.replace(grid, frames=grid.frames[:, :1].expand_as(grid.frames).clone())
    with pytest.raises(UserError, match="nothing moves by more than"):
        fit_scene(still, None, config(scene_options=SceneOptions(background=False)))


def test_a_fit_starts_from_another_programs_tracks_without_the_held_out_view(grid, tmp_path):
    """Their unit is not the cameras': five times as large."""
    points, _ = tracked_points(Pictures.of(grid, 0.06), grid.orbit, config())
    file = tmp_path / "tracks.npz"
    np.savez(file, points=5 * points.places, visible=points.visible, colours=points.colours)
    told = SceneOptions(tracks=file, opacity_iterations=0)
    train, unseen = grid[[0, 1, 2, 4, 5, 6]], grid[[3]]
    asset, _, placed = fit_scene(train, unseen, config(10, 20, scene_options=told))
    assert placed is not None
    drawn = rendered_like(asset, placed).frames
    assert float((drawn - unseen.frames).abs().mean()) < 0.05
    assert (asset.means[0] - asset.means[-1]).norm(dim=1).max() > 0.05


def test_points_that_no_view_confirms_are_no_scene(grid, monkeypatch):
    monkeypatch.setattr(start, "confirmed_opacity", lambda places, *_: torch.full(places.shape[1:2], 0.01))
    with pytest.raises(UserError, match="no view confirms more than 0 of"):
        fit_scene(grid, None, config())
