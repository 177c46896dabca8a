"""Floaters, what is still, and where the cameras of a scene come from."""

import dataclasses

import pytest
import torch
from walls import FOV_Y, cameras, scene

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.dnerf import write_dnerf
from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.scene.cameras import placed, placing, scene_cameras
from viewtime.recon.scene.floaters import FAINT, confirmed_opacity
from viewtime.recon.scene.frame_points import FramePoints
from viewtime.recon.scene.lift import in_frames
from viewtime.recon.scene.similarity import pose_errors
from viewtime.recon.scene.stillness import changing, on_changing, still_pictures


def test_a_floater_fades_and_what_the_pictures_show_stays():
    """A grey wall of Gaussians in frame coordinates, and ten red ones before it that no picture shows."""
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, 16), torch.linspace(-0.7, 0.7, 22), indexing="ij")
    wall = torch.stack([x.flatten(), y.flatten(), torch.full((352,), 2.0)], dim=1)
    floaters = torch.stack([torch.linspace(-0.3, 0.3, 10), torch.zeros(10), torch.full((10,), 1.5)], dim=1)
    points = torch.cat([wall, floaters])[None].repeat(3, 1, 1)
    colours = torch.cat([torch.full((352, 3), 0.5), torch.tensor([1.0, 0.0, 0.0]).expand(10, 3)])
    views = Viewpoints.of(FreeCameras.of(torch.eye(4).repeat(3, 1, 1, 1), FOV_Y), 24, 36)
    opacity = confirmed_opacity(
        points,
        torch.full((362,), 0.05),
        colours,
        torch.full((3, 3, 24, 36), 0.5),
        torch.full((3, 1, 1), 0.5),
        views,
        60,
        0,
    )
    assert float(opacity[352:].max()) < FAINT < 0.5 < float(opacity[:352].median())


def test_a_square_that_moves_changes_and_noise_of_single_pixels_does_not():
    frames = torch.full((1, 5, 3, 20, 30), 0.4)
    for frame in range(5):
        frames[0, frame, :, 5:11, 4 * frame : 4 * frame + 4] = 0.9
    frames[0, 2, :, 17, 25] = 1.0
    still = still_pictures(frames)
    torch.testing.assert_close(still, torch.full_like(still, 0.4))
    changed = changing(frames, still, 0.06)
    assert changed[0, 3, 5:11, 12:16].all()
    assert not changed[0, 3, :, :10].any()
    assert not changed[0, 2, 15:].any()


def test_points_move_where_most_views_show_them_on_changing_pixels():
    changed = torch.zeros(3, 10, 20, dtype=torch.bool)
    changed[:, :, :10] = True
    changed[2] = False
    focal, centre = torch.full((3,), 10.0), torch.tensor([10.0, 5.0]).expand(3, 2)
    left, right = [-0.5, 0.0, 1.0], [0.5, 0.0, 1.0]
    places = torch.tensor([left, right, left]).expand(3, 3, 3)
    visible = torch.ones(3, 3, dtype=torch.bool)
    visible[:2, 2] = False  # the third is shown by the one view in which nothing changes
    points = FramePoints(places, visible, torch.zeros(3, 3))
    assert on_changing(points, focal, centre, changed).tolist() == [True, False, False]


def test_a_scene_is_placed_before_the_cameras_and_pictures_do_not_change():
    views = cameras(5, 1)
    far = FreeCameras.of(
        views.matrices * torch.tensor([[1, 1, 1, 7], [1, 1, 1, 7], [1, 1, 1, 7], [0, 0, 0, 1.0]]), FOV_Y
    )
    similarity = placing(far, 7 * 2.6)
    moved = placed(far, similarity)
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(
        moved.project(similarity.points(points), 24, 36)[0], far.project(points, 24, 36)[0], atol=1e-3, rtol=1e-4
    )
    middle = moved.position()[:, 0].mean(0)
    torch.testing.assert_close(middle, torch.tensor([0.0, -2.0, 0.0]), atol=2e-2, rtol=0)
    assert placed(regular_orbit(3, 1), placing(regular_orbit(3, 1), 2.0)).azimuth[1, 0] == 120


@pytest.fixture(scope="module")
def grid():
    return scene(cameras(7, 2), 64, 96)[0]


def test_colmap_places_the_cameras_of_a_rendered_scene(grid):
    """Within 10 % of how far the cameras stand apart, and 2 degrees, after the best similarity."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'viewtime[scene]'")
    blind = dataclasses.replace(grid, cameras=None)
    found = scene_cameras(blind, SceneOptions(fov_y=FOV_Y), 0)
    assert found.shape == (7, 2)
    place, turn = pose_errors(found.camera_to_world()[:, 0], grid.orbit.camera_to_world()[:, 0])
    assert place < 0.10
    assert turn < 2.0


def test_tracks_of_another_program_place_the_cameras(grid, tmp_path):
    import numpy as np

    world = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    truth = grid.orbit.camera_to_world()[:, 0]
    points = in_frames(world, torch.linalg.inv(truth)).numpy()
    np.savez(tmp_path / "t.npz", points=points, visible=np.ones((7, 60), bool), colours=np.full((60, 3), 99, np.uint8))
    blind = dataclasses.replace(grid, cameras=None)
    found = scene_cameras(blind, SceneOptions(tracks=tmp_path / "t.npz"), 0).camera_to_world()[:, 0]
    assert pose_errors(found, truth) == pytest.approx((0, 0), abs=0.02)


def test_told_cameras_are_read_from_nerfstudios_form_and_must_fit(grid, tmp_path):
    blind = dataclasses.replace(grid, cameras=None)
    write_dnerf(grid[:, :1], tmp_path / "told")
    told = scene_cameras(blind, SceneOptions(cameras=tmp_path / "told"), 0)
    torch.testing.assert_close(told.camera_to_world(), grid.orbit.camera_to_world(), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="has cameras of 7 views; this grid has 5"):
        scene_cameras(blind[:5], SceneOptions(cameras=tmp_path / "told"), 0)


def test_cameras_that_move_and_views_too_few_are_refused(grid):
    moving = grid.orbit.matrices.clone()
    moving[2, 1, 0, 3] += 0.1
    with pytest.raises(UserError, match="cameras that move over the frames"):
        scene_cameras(dataclasses.replace(grid, cameras=FreeCameras.of(moving, FOV_Y)), SceneOptions(), 0)
    with pytest.raises(UserError, match="2 views are too few"):
        scene_cameras(dataclasses.replace(grid[:2], cameras=None), SceneOptions(), 0)


def test_pictures_that_nobody_can_follow_are_refused():
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'viewtime[scene]'")
    flat = scene(cameras(4, 1), 16, 24)[0]
    flat = dataclasses.replace(flat, frames=torch.full_like(flat.frames, 0.5), cameras=None)
    with pytest.raises(UserError, match=r"COLMAP places \d of 4 views.*--scene.cameras"):
        scene_cameras(flat, SceneOptions(), 0)
