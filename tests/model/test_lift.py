"""The lifting volume of mini stands where the cameras say, and changes nothing before it is trained."""

from __future__ import annotations

import math

import torch

from viewtime.cameras import DEFAULT_FOV_Y, Cameras
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.lift import Lift
from viewtime.model.mini.network import MiniNetwork
from viewtime.model.mini.rays import camera_axes, voxel_centres

SIDE = 16
DISTANCE = 1 / math.tan(math.radians(DEFAULT_FOV_Y) / 2)  # the distance at which half a picture's height is 1


def orbit(views: int) -> Cameras:
    generator = torch.Generator().manual_seed(3)
    elevation = 60 * torch.rand(views, 1, generator=generator) - 20
    azimuth = 360 * torch.rand(views, 1, generator=generator)
    return Cameras(elevation, azimuth, torch.full((views, 1), DISTANCE))


def test_axes_are_those_of_the_cameras() -> None:
    cameras = orbit(5)
    axes = camera_axes(cameras.elevation, cameras.azimuth)
    torch.testing.assert_close(axes, cameras.world_to_camera()[..., :3, :3])


def test_a_voxel_holds_what_its_projection_shows() -> None:
    cameras, lift = orbit(1), Lift(2, 2, SIDE)
    lift.enter, lift.place, lift.blocks = torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    coordinates = torch.stack([x, y])[None, None, None]
    axes = camera_axes(cameras.elevation, cameras.azimuth)[None]
    volume = lift.fill(coordinates, torch.ones(1, 1, 1, dtype=torch.bool), axes)
    voxels = voxel_centres(SIDE, SIDE, torch.device("cpu"))
    inside = voxels.reshape(-1, 3).abs().amax(dim=1) < 0.55
    points = voxels.reshape(-1, 3)[inside]
    pixels, _ = cameras.project(points, SIDE, SIDE)
    torch.testing.assert_close(volume[0, :2].reshape(2, -1).T[inside], pixels[0, 0], atol=1e-4, rtol=0)


def test_an_opaque_voxel_appears_at_its_projection_in_every_view() -> None:
    cameras, lift = orbit(6), Lift(2, 2, SIDE)
    lift.shade, lift.leave = torch.nn.Identity(), torch.nn.Identity()
    volume = torch.zeros(1, 3, SIDE, SIDE, SIDE)
    volume[:, 2] = -20.0
    volume[0, 2, 11, 5, 9] = 100.0
    seen = lift.render(volume, camera_axes(cameras.elevation, cameras.azimuth)[None])[0, :, 0, 2]
    voxels = voxel_centres(SIDE, SIDE, torch.device("cpu"))
    pixels, _ = cameras.project(voxels[11, 5, 9][None], SIDE, SIDE)
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    for view, opacity in enumerate(seen):
        centre = torch.stack([(opacity * x).sum(), (opacity * y).sum()]) / opacity.sum()
        assert (centre - pixels[view, 0, 0]).norm() < 0.7, view


def test_an_untrained_lift_changes_nothing_and_bears_frames_without_known_cells() -> None:
    torch.manual_seed(0)
    sizes = {"size": 32, "stem_widths": (8, 16), "width": 32, "head_dim": 16, "depth": 2}
    plain = MiniNetwork(MiniConfig(**sizes))  # type: ignore[arg-type]
    lifted = MiniNetwork(MiniConfig(**sizes, lift_channels=4))  # type: ignore[arg-type]
    torch.nn.init.normal_(plain.decoder.leave.weight, std=0.1)
    lifted.load_state_dict(plain.state_dict(), strict=False)
    x, t = torch.randn(1, 3, 2, 4, 32, 32), torch.full((1, 3, 2), 0.7)
    known = torch.tensor([[[True, False], [False, False], [False, False]]])
    cond = {"known": known, "known_frames": x, "elevation": torch.zeros(1, 3, 2), "azimuth": torch.rand(1, 3, 2) * 360}
    torch.testing.assert_close(lifted(x, t, cond), plain(x, t, cond))
    torch.nn.init.normal_(lifted.lift.leave.weight)  # type: ignore[union-attr]
    trained = lifted(x, t, cond)
    assert torch.isfinite(trained).all()
    assert not torch.allclose(trained[:, 1:], plain(x, t, cond)[:, 1:])
