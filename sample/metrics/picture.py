"""The summary picture: where in the grid the error sits, and the worst cells beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from viewtime.errors import require
from viewtime.files import atomic_path
from viewtime.sample.metrics.evaluator import GridEvaluator, heat_metric
from viewtime.sample.metrics.summary import HIGHER, NAMES

SHOWN = 6  # worst cells


def write_picture(evaluator: GridEvaluator, path: Path) -> Path | None:
    """Heat map over views × frames, mean over the pairs of the commonest grid size; worst cells of all pairs.

    Returns:
        The path, or None where no metric per cell was computed.

    Raises:
        UserError: matplotlib is not installed.
    """
    metric = heat_metric(evaluator.pairs[0]) if evaluator.pairs else None
    if metric is None:
        return None
    require("matplotlib", "metrics")
    from matplotlib.figure import Figure  # the object form: no state shared with the caller's own pyplot

    sizes = [pair.shape[:2] for pair in evaluator.pairs]
    V, F = max(set(sizes), key=sizes.count)
    shown = [pair for pair in evaluator.pairs if pair.shape[:2] == (V, F)]
    heat = torch.stack([pair.cells[metric] for pair in shown]).nanmean(dim=0).numpy()
    worst = sorted(evaluator.worst, reverse=True)[:SHOWN]
    figure = Figure(figsize=(11, 3.2 + 0.28 * min(V, 24)), layout="constrained")
    grid = figure.add_gridspec(
        2, max(len(worst), 1) + 1, height_ratios=[1, 1], width_ratios=[5] + [1] * max(len(worst), 1)
    )
    axis = figure.add_subplot(grid[:, 0])
    _draw_heat(axis, figure, heat, metric, len(shown), len(evaluator.pairs))
    for column, cell in enumerate(worst):
        value = cell.error if metric not in HIGHER else -cell.error
        for row, (pixels, name) in enumerate(((cell.pred, "prediction"), (cell.gt, "truth"))):
            picture = figure.add_subplot(grid[row, column + 1])
            picture.imshow(rearrange(pixels, "c h w -> h w c").clamp(0, 1).numpy())
            picture.set_xticks([])
            picture.set_yticks([])
            heading = f"{cell.label}\n{value:.3g}" if row == 0 else ""
            picture.set_title(heading, fontsize=7)
            if column == 0:
                picture.set_ylabel(name, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _draw_heat(axis: Any, figure: Any, heat: np.ndarray, metric: str, shown: int, total: int) -> None:
    """Dark is good in both directions; cells that were given as input stay grey."""
    axis.set_facecolor("0.85")
    colours = "magma_r" if metric in HIGHER else "magma"
    drawn = axis.imshow(heat, aspect="auto", cmap=colours, interpolation="nearest")
    figure.colorbar(drawn, ax=axis, shrink=0.9)
    of = f"{shown} of {total} pairs" if shown < total else f"{total} pairs" if total > 1 else "1 pair"
    worse = "lower" if metric in HIGHER else "higher"
    axis.set_title(f"{NAMES.get(metric, metric)} per cell, mean over {of} (bright is worse: {worse})", fontsize=9)
    axis.set_xlabel("frame")
    axis.set_ylabel("view")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.get_major_locator().set_params(integer=True)
