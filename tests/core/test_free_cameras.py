"""Cameras that stand anywhere: kept whole by files, projections and slices; refused where they are no cameras."""

import json

import pytest
import torch
from scipy.spatial.transform import Rotation

from viewtime.dnerf import read_dnerf, write_dnerf
from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras, read_cameras
from viewtime.grid import FrameGrid


def some(views=3, frames=2):
    turn = torch.from_numpy(Rotation.random(views, random_state=0).as_matrix()).float()
    matrix = torch.eye(4).repeat(views, 1, 1)
    matrix[:, :3, :3] = turn
    matrix[:, :3, 3] = torch.randn(views, 3, generator=torch.Generator().manual_seed(0))
    return FreeCameras.of_views(matrix, frames, 50.0)


def test_a_known_point_is_projected_where_it_must_be():
    matrix = torch.eye(4)
    matrix[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    cameras = FreeCameras.of_views(matrix[None], 1, 90.0)  # focal length: half of the height
    pixel, depth = cameras.project(torch.tensor([[2.0, 1.5, 7.0]]), 40, 60)
    assert pixel.flatten().tolist() == pytest.approx([30 + 20 / 4, 20 - 20 * 0.5 / 4])
    assert float(depth) == 4


def test_a_grid_keeps_them_on_disk_and_in_nerfstudios_form(tmp_path):
    cameras = some()
    grid = FrameGrid(torch.rand(3, 2, 3, 8, 12), torch.ones(3, 2, dtype=torch.bool), cameras, 8.0)
    grid.save(tmp_path / "grid", lossless=True)
    write_dnerf(grid, tmp_path / "dnerf")
    for read in (FrameGrid.load(tmp_path / "grid"), read_dnerf(tmp_path / "dnerf")):
        assert isinstance(read.cameras, FreeCameras)
        assert read.cameras.fov_y == pytest.approx(50.0, abs=1e-4)
        torch.testing.assert_close(read.cameras.matrices, cameras.matrices, atol=1e-5, rtol=1e-5)
    part = grid[[2, 0], 1].orbit
    torch.testing.assert_close(part.camera_to_world(), cameras.matrices[[2, 0], 1:])
    inverse = part.world_to_camera() @ part.camera_to_world()
    torch.testing.assert_close(inverse, torch.eye(4).expand(2, 1, 4, 4), atol=1e-5, rtol=0)


def test_what_is_no_camera_is_refused():
    good = some().matrices
    with pytest.raises(UserError, match="needed: \\[V, F, 4, 4\\]"):
        FreeCameras.of(good[:, 0])
    with pytest.raises(UserError, match="not finite"):
        FreeCameras.of(good * float("nan"))
    with pytest.raises(UserError, match="no rotation"):
        FreeCameras.of(good * torch.tensor([1.2, 1, 1, 1]))
    with pytest.raises(UserError, match="mirrored"):
        FreeCameras.of(good * torch.tensor([-1.0, 1, 1, 1]))
    record = json.loads(json.dumps(some().to_json()))
    record["camera_to_world"][1][0].pop()
    with pytest.raises(UserError, match="no table of 4 × 4"):
        read_cameras(record)


def test_an_orbits_angles_are_not_asked_of_them():
    with pytest.raises(UserError, match="no orbit"):
        some().rezero()
    with pytest.raises(UserError, match="no orbit"):
        some().with_middles()
