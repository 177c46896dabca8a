"""The Python API of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from viewtime.configs.load import suggest
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid

from .evaluator import PIXEL_METRICS, Settings, evaluate_pair


def evaluate(
    pred: FrameGrid | str | Path, gt: FrameGrid | str | Path, metrics: Sequence[str] = Settings.metrics
) -> dict[str, float]:
    """Score a grid against its truth by the metrics that need no network; `viewtime evaluate` has all.

    >>> evaluate(grid, grid, ["mask_iou"])
    {'mask_iou': 1.0}

    Args:
        pred, gt: grids of equal views, frames and size, or their folders; cells that `pred` was given are not scored.
        metrics: of `PIXEL_METRICS`, and "flicker".

    Raises:
        UserError: an unknown metric, or the grids differ.
    """
    known = (*PIXEL_METRICS, "flicker")
    for name in metrics:
        if name not in known:
            raise UserError(f"no metric {name!r} without a network{suggest(name, list(known))}; {', '.join(known)}")
    made, truth = (grid if isinstance(grid, FrameGrid) else open_grid(grid) for grid in (pred, gt))
    values = evaluate_pair(made, truth, Settings(metrics=tuple(metrics)))
    return {name: values[name] for name in metrics}
