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
PER_BAND = 3  # of them side by side


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
    bands = 1 + (len(worst) > PER_BAND)
    figure = Figure(figsize=(11, max(4.4, 1.2 + 0.3 * V)), layout="constrained")
    sides = figure.add_gridspec(1, 2)
    left, right = figure.add_subfigure(sides[0]), figure.add_subfigure(sides[1])
    _draw_heat(left.subplots(), left, heat, metric, len(shown), len(evaluator.pairs))
    axes = right.subplots(2 * bands, PER_BAND, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, cell in enumerate(worst):
        band, column = divmod(index, PER_BAND)
        value = -cell.error if metric in HIGHER else cell.error
        _show(axes[2 * band, column], cell.pred, f"{cell.label}: {value:.3g}\nprediction")
        _show(axes[2 * band + 1, column], cell.gt, "truth")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _show(axis: Any, pixels: torch.Tensor, title: str) -> None:
    axis.set_axis_on()
    axis.imshow(rearrange(pixels, "c h w -> h w c").clamp(0, 1).numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=7, pad=2)


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
