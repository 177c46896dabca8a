"""Scores of rendered cells against true ones, over finite cells."""

from __future__ import annotations

import torch

from viewtime.grid import FrameGrid
from viewtime.sample.metrics.image import flicker, mask_iou, object_crop_psnr, psnr, ssim

from .targets import mask_from_colour


def with_mask(grid: FrameGrid) -> FrameGrid:
    """The grid with an alpha channel; from the background's colour where it has none."""
    if grid.has_alpha:
        return grid
    frames = torch.cat([grid.frames, mask_from_colour(grid.rgb())], dim=2)
    return FrameGrid(frames, grid.known, grid.cameras, grid.fps, grid.provenance)


def scores(rendered: FrameGrid, truth: FrameGrid) -> dict[str, float]:
    """Means over cells: psnr and crop_psnr (dB, on white), ssim, iou, and flicker where there are frames to compare."""
    truth = with_mask(truth)
    finite = torch.isfinite(truth.frames).flatten(2).all(dim=2)
    first = torch.where(finite[..., None, None, None], rendered.frames, torch.zeros(()))
    second = torch.where(finite[..., None, None, None], truth.frames, torch.zeros(()))
    parts = {"psnr": psnr, "crop_psnr": object_crop_psnr, "ssim": ssim, "iou": mask_iou}
    result = {}
    for name, function in parts.items():
        cells = function(first, second)[finite]
        result[name] = float(cells[torch.isfinite(cells)].mean())
    if truth.shape[1] > 2:
        values = flicker(first, second)
        result["flicker"] = float(values[torch.isfinite(values)].mean())
    return result
