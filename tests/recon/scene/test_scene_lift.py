"""Places in pictures to points: exact where the tracks are, and honest where they say nothing of depth."""

import pytest
import torch
from walls import cameras

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.scene.frame_points import canonical_points
from viewtime.recon.scene.lift import lift
from viewtime.recon.scene.pixel_tracks import PixelTracks

H, W = 48, 72


def tracked(views: Cameras, world: torch.Tensor, shift: float = 0.0):
    """Exact tracks of world points, or each view's moved by its own number of pixels."""
    places, depth = views.project(world, H, W)
    g = torch.Generator().manual_seed(4)
    places = places[:, 0] + shift * torch.randn(views.shape[0], 1, 2, generator=g)
    return PixelTracks(places, depth[:, 0] > 0, torch.rand(len(world), 3, generator=g))


def cloud(count=150, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=g) * torch.tensor([1.2, 1.6, 0.9]) - torch.tensor([0.6, 0.4, 0.45])


def test_points_come_back_though_a_view_is_wrong_about_some():
    views, world = cameras(6, 1), cloud()
    tracks = tracked(views, world)
    tracks.visible[2, ::3] = False
    tracks.places[4, :30] += 6.0  # lost its way by six pixels
    points = lift(tracks, Viewpoints.of(views, H, W), SceneOptions())
    position, _ = canonical_points(points, views.camera_to_world()[:, 0], "agreed")
    missed = (position - world).norm(dim=1)
    assert float(missed[30:].max()) < 2e-3
    assert float(missed[:30].median()) < 0.05


def test_each_view_sees_its_own_track_at_the_points_depth():
    views, world = cameras(6, 1), cloud()
    tracks, seen_by = tracked(views, world, shift=0.8), Viewpoints.of(views, H, W)
    points = lift(tracks, seen_by, SceneOptions())
    pixels = points.places[..., :2] / points.places[..., 2:] * seen_by.focal[:, None, None] + seen_by.centre[:, None]
    torch.testing.assert_close(pixels, tracks.places, atol=1e-3, rtol=1e-4)


def test_depth_that_nothing_tells_is_the_middle_one():
    """One view alone shows a point: it lies on that view's ray, as far away as the others do."""
    views, world = cameras(6, 1), cloud()
    tracks = tracked(views, world)
    tracks.visible[:, :20] = False
    tracks.visible[3, :20] = True
    points = lift(tracks, Viewpoints.of(views, H, W), SceneOptions())
    depth = points.places[3, :, 2]
    assert float((depth[:20] / depth[20:].median() - 1).abs().max()) < 0.1


def test_near_and_far_bound_the_depth():
    views = cameras(6, 1)
    world = torch.cat([cloud(), torch.tensor([[0.0, 60.0, 0.0], [0.0, -1.9, 0.1]])])
    points = lift(tracked(views, world), Viewpoints.of(views, H, W), SceneOptions(near=0.5, far=3.0))
    depth = points.places[..., 2][points.visible]
    middle = float(points.places[..., 2][:, :-2].median())
    assert float(depth.max()) == pytest.approx(3 * middle, rel=0.05)
    assert float(depth.min()) == pytest.approx(0.5 * middle, rel=0.05)


def test_units_do_not_matter():
    """A world a hundred times as large gives points a hundred times as far away."""
    views, world = cameras(6, 1), cloud()
    tracks = tracked(views, world, shift=0.3)
    small = lift(tracks, Viewpoints.of(views, H, W), SceneOptions()).places
    views.matrices[..., :3, 3] *= 100
    large = lift(tracks, Viewpoints.of(views, H, W), SceneOptions()).places
    torch.testing.assert_close(large / 100, small, atol=1e-3, rtol=1e-3)


def test_points_that_one_of_opposite_cameras_shows_are_somewhere():
    """Cameras all around share no direction to pull along; the equations of a point in one picture still end."""
    azimuth = torch.tensor([[0.0], [90.0], [180.0], [270.0]])
    views = Cameras(torch.zeros(4, 1), azimuth, torch.full((4, 1), 2.0))
    world = 0.3 * cloud()
    tracks = tracked(views, world)
    tracks.visible[1:, :20] = False
    points = lift(tracks, Viewpoints.of(views, H, W), SceneOptions())
    assert bool(torch.isfinite(points.places).all())
    position, _ = canonical_points(points, views.camera_to_world()[:, 0], "agreed")
    assert float((position - world)[20:].norm(dim=1).max()) < 2e-3
