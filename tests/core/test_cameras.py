import math

import pytest
import torch

from viewtime.cameras import (
    Cameras,
    opencv_from_opengl,
    opengl_from_opencv,
    orbit_from_camera_to_world,
    regular_orbit,
)
from viewtime.errors import UserError


def test_known_points_project_where_hand_computation_says():
    """Distance 2, field of view 2·atan(1/2): a plane through the origin spans exactly ±1 in image height."""
    cameras = regular_orbit(4, 1, elevation=0.0, distance=2.0, fov_y=2 * math.degrees(math.atan(0.5)))
    points = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.5, 0.0]])
    pixels, depth = cameras.project(points, 100, 100)
    # Front view: +X to the right, +Z up, +Y away from the camera.
    torch.testing.assert_close(pixels[0, 0], torch.tensor([[50.0, 50], [75, 50], [50, 25], [50, 50]]))
    torch.testing.assert_close(depth[0, 0], torch.tensor([2.0, 2.0, 2.0, 2.5]))
    # Azimuth 90 degrees counter-clockwise from above stands on +X: +Y is to the right, +X is near.
    torch.testing.assert_close(pixels[1, 0, 3], torch.tensor([75.0, 50.0]))
    torch.testing.assert_close(depth[1, 0, 1], torch.tensor(1.5))


def test_matrices_are_rigid_and_rays_hit_the_projected_points():
    cameras = Cameras(torch.tensor([[35.0, -20.0]]), torch.tensor([[200.0, 310.0]]), torch.tensor([[1.7, 2.2]]), 40.0)
    c2w, w2c = cameras.camera_to_world(), cameras.world_to_camera()
    torch.testing.assert_close(torch.linalg.det(c2w[..., :3, :3]), torch.ones(1, 2))
    torch.testing.assert_close(c2w @ w2c, torch.eye(4).expand(1, 2, 4, 4), atol=1e-6, rtol=0)
    origins, directions = cameras.rays(32, 48)
    points = origins[..., None, None, :] + 1.3 * directions
    for frame in range(2):
        pixels, _ = cameras.project(points[0, frame].reshape(-1, 3), 32, 48)
        y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        torch.testing.assert_close(pixels[0, frame], torch.stack([x, y], -1).reshape(-1, 2), atol=2e-4, rtol=0)


def test_conversions_and_json_round_trip():
    cameras = regular_orbit(5, 3, elevation=-10.0, azimuth_start=30.0)
    c2w = cameras.camera_to_world()
    torch.testing.assert_close(opencv_from_opengl(opengl_from_opencv(c2w)), c2w)
    # An OpenGL camera looks along its own -z.
    torch.testing.assert_close(-opengl_from_opencv(c2w)[..., :3, 2], c2w[..., :3, 2])
    again = Cameras.from_json(cameras.to_json())
    torch.testing.assert_close(again.camera_to_world(), c2w)
    elevation, azimuth, distance = orbit_from_camera_to_world(c2w)
    torch.testing.assert_close(elevation, cameras.elevation, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.remainder(azimuth, 360), cameras.azimuth, atol=1e-3, rtol=0)
    torch.testing.assert_close(distance, cameras.distance)


def test_slicing_keeps_both_axes_and_rezero_counts_from_the_input_view():
    cameras = regular_orbit(4, 6, azimuth_start=100.0)
    assert cameras[1].shape == (1, 6)
    assert cameras[[0, 2], 3:].shape == (2, 3)
    assert cameras[[0, 2], 3:].azimuth[1, 0].item() == 280.0
    torch.testing.assert_close(cameras.rezero(1).azimuth[:, 0], torch.tensor([270.0, 0.0, 90.0, 180.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fov_y": 0.0}, "field of view"),
        ({"elevation": torch.tensor([1.0])}, r"\[V, F\]"),
        ({"distance": torch.tensor([[float("nan")]])}, "not finite"),
    ],
)
def test_impossible_cameras_are_refused(change, message):
    one = torch.tensor([[1.0]])
    values = {"elevation": one, "azimuth": one, "distance": one, "fov_y": 40.0} | change
    if "elevation" in change:
        values |= {"azimuth": torch.tensor([1.0]), "distance": torch.tensor([1.0])}
    with pytest.raises(UserError, match=message):
        Cameras(**values)


def test_a_camera_that_looks_elsewhere_is_no_orbit():
    c2w = regular_orbit(1, 1).camera_to_world().clone()
    c2w[..., :3, 3] += torch.tensor([0.0, 0.0, 0.3])
    with pytest.raises(UserError, match="no orbit camera"):
        orbit_from_camera_to_world(c2w)
