"""What a fit aims at: masks, usable cells, and how far the cameras see."""

import dataclasses
import logging
import math

import pytest
import torch
from scenes import training_grid

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.recon.fitting.targets import make_targets, mask_from_colour, split_views


def scene(height: int, width: int, distances: list[float], fov_y: float) -> FrameGrid:
    frames = torch.zeros(len(distances), 1, 4, height, width)
    frames[..., height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 1
    distance = torch.tensor(distances)[:, None]
    azimuth = torch.arange(len(distances))[:, None] * 90.0
    cameras = Cameras(torch.zeros_like(distance), azimuth, distance, fov_y)
    return FrameGrid(frames, torch.zeros(len(distances), 1, dtype=torch.bool), cameras)


@pytest.mark.parametrize(("height", "width", "wider"), [(32, 32, 1.0), (20, 50, 2.5), (50, 20, 1.0)])
def test_the_reach_is_the_nearest_cameras_and_grows_with_the_width(height, width, wider):
    """A sphere about the origin fits a camera's cone if its radius is at most distance × sin(fov / 2)."""
    targets = make_targets(scene(height, width, [3.0, 2.0, 4.0], 40.0))
    assert targets.reach == pytest.approx(2.0 * math.sin(math.radians(20.0)) * wider)


def test_cells_are_counted_view_by_view():
    targets = make_targets(training_grid(views=3, frames=2, size=16))
    assert targets.shape == (3, 2, 16, 16)
    assert targets.cell(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1])).tolist() == [1, 2, 5]


def test_cells_that_cannot_be_used_are_left_out_and_the_rest_must_be_two():
    grid = training_grid(views=4, frames=2, size=24)
    frames = grid.frames.clone()
    frames[0, 0, 0, 3, 3] = math.nan
    frames[1, 1, 3] = 0
    targets = make_targets(dataclasses.replace(grid, frames=frames))
    assert (~targets.usable).nonzero().tolist() == [[0, 0], [1, 1]]
    assert torch.isfinite(targets.images).all()
    frames[1:3, 0, 3] = 0
    with pytest.raises(UserError, match=r"frames \[0\] have fewer than 2 usable views"):
        make_targets(dataclasses.replace(grid, frames=frames))
    with pytest.raises(UserError, match="every cell is empty"):
        make_targets(dataclasses.replace(grid, frames=torch.zeros_like(frames)))


def test_an_object_at_the_edge_is_said(caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)
    grid = scene(16, 16, [2.0, 2.0, 2.0], 33.8)
    with caplog.at_level(logging.WARNING):
        make_targets(grid)
        assert "touches the picture's edge" not in caplog.text
        for side in (
            (slice(0, 1), slice(5, 6)),
            (slice(15, 16), slice(5, 6)),
            (slice(5, 6), slice(0, 1)),
            (slice(5, 6), slice(15, 16)),
        ):
            caplog.clear()
            frames = grid.frames.clone()
            frames[1, 0, :, side[0], side[1]] = 1
            make_targets(dataclasses.replace(grid, frames=frames))
            assert "in 1 of 3 cells the object touches the picture's edge" in caplog.text


def test_colours_on_a_plain_background_give_the_mask():
    rgb = torch.full((2, 1, 3, 9, 9), 0.2)
    rgb[:, :, 1, 3:6, 3:6] = 0.2 + torch.tensor([0.01, 0.05, 0.5])
    mask = mask_from_colour(rgb)
    assert mask[0, 0, 0, 4, 3:6].tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-5)
    assert mask[0, 0, 0, 0].tolist() == [0.0] * 9


def test_views_are_split_by_number():
    grid = training_grid(views=4, frames=1, size=16)
    train, held_out = split_views(grid, (3, 1))
    assert torch.equal(train.frames, grid.frames[[0, 2]])
    assert torch.equal(held_out.frames, grid.frames[[3, 1]])
    with pytest.raises(UserError, match=r"held-out views \[4\]: the grid has views 0 to 3"):
        split_views(grid, (4,))
