"""The picture by which a fit is followed: the asset beside what it was fitted to."""

from __future__ import annotations

from pathlib import Path

import torch

from viewtime.grid import FrameGrid
from viewtime.images import contact_sheet
from viewtime.recon.render.moving import Renderable


def write_preview(asset: Renderable, grid: FrameGrid, path: Path, views: int = 2, frames: int = 6) -> Path:
    """Rows of the grid and, under each, the asset from the same cameras."""
    rows = torch.linspace(0, grid.shape[0] - 1, min(views, grid.shape[0])).round().long().tolist()
    columns = torch.linspace(0, grid.shape[1] - 1, min(frames, grid.shape[1])).round().long()
    rendered = asset.render_grid(grid.orbit[rows], *grid.shape[3:]).rgb()
    truth = torch.nan_to_num(grid.rgb(), nan=1.0)
    table = [picture[columns] for row, mine in zip(rows, rendered) for picture in (truth[row], mine)]
    labels = [text for row in rows for text in (f"view {row}", "asset")]
    return contact_sheet(
        torch.stack(table), path, row_labels=labels, column_labels=[f"frame {int(c)}" for c in columns]
    )
