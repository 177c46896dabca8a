"""Contact sheets of rendered grids, to be looked at."""

from __future__ import annotations

from pathlib import Path

import torch

from viewtime.grid import FrameGrid
from viewtime.images import contact_sheet

ROWS, COLUMNS = 4, 8


def write_sheet(grid: FrameGrid, path: Path) -> Path:
    """A few views (rows) over time (columns), evenly spaced, on white."""
    views, frames = grid.shape[:2]
    rows = torch.linspace(0, views - 1, min(ROWS, views)).round().long()
    columns = torch.linspace(0, frames - 1, min(COLUMNS, frames)).round().long()
    labels = None
    if grid.cameras is not None:
        labels = [f"{float(grid.cameras.azimuth[row, 0]):.0f}°" for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    return contact_sheet(grid.frames[rows][:, columns], path, row_labels=labels)
