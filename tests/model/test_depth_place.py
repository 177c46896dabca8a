"""The overlap at the best depth: a solid moved along the input's ray, rendered, is found where it was moved to."""

import math

import pytest
import torch

from benchmarks.depth_place import displaced, iou_at_best_depth
from viewtime.cameras import Cameras
from viewtime.grid import FrameGrid
from viewtime.model.mini.rays import camera_axes
from viewtime.model.mini.solid import render_solid
from viewtime.sample.metrics.measures.image import mask_iou

CELLS, FOV = 32, 33.8
SLOPE = torch.tensor(math.tan(math.radians(FOV) / 2))
AZIMUTH = torch.tensor([0.0, 60.0, 90.0, 135.0, 225.0, 300.0])


def seen_at(depth: float) -> torch.Tensor:
    """Alpha [V, 1, 64, 64] of a narrow, high block in the input's frustum, so far behind the orbit's centre."""
    place = (torch.arange(CELLS) + 0.5) / CELLS * 2 - 1
    z, y, x = torch.meshgrid(place, place, place, indexing="ij")
    block = ((z - depth).abs() < 0.25) & (y.abs() < 0.4) & (x.abs() < 0.2)
    solid = torch.stack([*[torch.zeros_like(x)] * 3, 4.0 * block])[None]
    axes = camera_axes(torch.full_like(AZIMUTH, 10.0), AZIMUTH)
    return (render_solid(solid, axes[None, 0], axes[None], SLOPE[None], 64)[0, :, 3:] + 1) / 2


def grid_of(alpha: torch.Tensor) -> FrameGrid:
    frames = alpha[:, :, None].expand(-1, -1, 4, -1, -1)
    shape = (len(AZIMUTH), 1)
    cameras = Cameras(torch.full(shape, 10.0), AZIMUTH[:, None], torch.full(shape, 2.0), FOV)
    return FrameGrid(frames, torch.zeros(shape, dtype=torch.bool), cameras, 12.0)


@pytest.mark.parametrize("depth", [-0.25, 0.0, 0.1875, 0.3125])
def test_a_block_moved_along_the_ray_is_found_where_it_stands(depth: float) -> None:
    truth, made = seen_at(depth), seen_at(0.0)
    found, moved = iou_at_best_depth(grid_of(made), grid_of(truth))
    plain = float(mask_iou(grid_of(made).frames[1:], grid_of(truth).frames[1:]).mean())
    assert abs(moved - depth) <= 0.0625
    assert found > 0.85
    assert found >= plain
    assert (plain > 0.98) == (depth == 0.0)


def test_the_input_view_does_not_change() -> None:
    alpha = seen_at(0.1)
    axes = camera_axes(torch.full_like(AZIMUTH, 10.0), AZIMUTH)
    assert torch.allclose(displaced(alpha, axes, SLOPE, 0.3)[0], alpha[0], atol=1e-4)
