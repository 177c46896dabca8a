"""The four paths against lists written by hand for a grid of 3 views × 4 frames."""

from __future__ import annotations

import pytest
import torch

from viewtime.grid import FrameGrid
from viewtime.sample.metrics.measures.traversal import (
    PATHS,
    diagonal_clips,
    frame_clips,
    gather,
    raster_clips,
    view_clips,
    windows,
)


def test_frames_of_each_view() -> None:
    assert frame_clips(3, 4) == [
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(1, 0), (1, 1), (1, 2), (1, 3)],
        [(2, 0), (2, 1), (2, 2), (2, 3)],
    ]


def test_views_of_each_frame() -> None:
    assert view_clips(3, 4) == [
        [(0, 0), (1, 0), (2, 0)],
        [(0, 1), (1, 1), (2, 1)],
        [(0, 2), (1, 2), (2, 2)],
        [(0, 3), (1, 3), (2, 3)],
    ]


def test_diagonals() -> None:
    assert diagonal_clips(3, 4) == [
        [(0, 0), (1, 1), (2, 2), (0, 3)],
        [(1, 0), (2, 1), (0, 2), (1, 3)],
        [(2, 0), (0, 1), (1, 2), (2, 3)],
    ]


def test_bidirectional_raster() -> None:
    assert raster_clips(3, 4) == [
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (1, 2), (1, 1), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    ]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("V", "F"), [(3, 4), (5, 2), (1, 6), (4, 4)])
def test_every_cell_once(path: str, V: int, F: int) -> None:
    cells = [cell for clip in PATHS[path](V, F) for cell in clip]
    assert sorted(cells) == [(view, frame) for view in range(V) for frame in range(F)]


def test_paths_agree_with_the_grid_object() -> None:
    grid = FrameGrid(torch.rand(3, 4, 3, 2, 2), torch.ones(3, 4, dtype=torch.bool))
    assert torch.equal(gather(grid.frames, frame_clips(3, 4)[1]), grid.row(1))
    assert torch.equal(gather(grid.frames, view_clips(3, 4)[2]), grid.column(2))
    for start in range(3):
        assert torch.equal(gather(grid.frames, diagonal_clips(3, 4)[start]), grid.diagonal(start))


def test_windows() -> None:
    clip = [(0, frame) for frame in range(7)]
    assert windows(clip, None) == [clip]
    assert windows(clip, 3) == [clip[0:3], clip[3:6]]
    assert windows(clip, 3, 2) == [clip[0:3], clip[2:5], clip[4:7]]
    assert windows(clip, 8) == []
