"""From pairs to a table: means, Fréchet distances, bootstrap intervals, and the protocol of every number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from viewtime.log import progress
from viewtime.sample.metrics.evaluator import FRECHET, GridEvaluator
from viewtime.sample.metrics.measures.image import CROP_MARGIN, MASK_ALPHA, MASK_DISTANCE, PSNR_LIMIT

CONFIDENCE = 0.95
NAMES = {
    "psnr": "PSNR",
    "object_crop_psnr": "PSNR, object crop",
    "foreground_psnr": "PSNR, foreground",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "st_lpips": "ST-LPIPS",
    "lpips_star": "LPIPS*",
    "clip_s": "CLIP-S",
    "mask_iou": "mask IoU",
    "flicker": "flicker error",
}
HIGHER = ("psnr", "object_crop_psnr", "foreground_psnr", "ssim", "clip_s", "mask_iou")
PIXEL_PROTOCOLS = {
    "psnr": f"whole image, float64, at most {PSNR_LIMIT:.0f} dB per cell",
    "object_crop_psnr": f"bounding box of the truth's object + {CROP_MARGIN} px; cells without object left out",
    "foreground_psnr": "pixels of the truth's object alone; cells without object left out",
    "ssim": "11×11 Gaussian of sigma 1.5, population covariance, border of 5 px left out, mean over RGB, float64",
    "mask_iou": f"alpha > {MASK_ALPHA} where both have alpha, else a channel over {MASK_DISTANCE} from the background",
    "flicker": "mean absolute change of (prediction - truth) from frame to frame, range [0, 1]",
}
ORDERS = {
    "fvd_f": "one clip per view: its frames",
    "fvd_v": "one clip per frame: its views",
    "fvd_diag": "one clip per starting view: view and time advance together, the view wraps",
    "fv4d": "one clip per grid: all cells, even views forward in time, odd views backward",
}


@dataclass(frozen=True)
class Row:
    """One line of the table. `low` and `high` bound the 95 % interval; None where there is one pair only."""

    metric: str
    name: str
    better: str
    value: float
    low: float | None
    high: float | None
    samples: str
    protocol: str


@dataclass
class Summary:
    """What an evaluation found; `viewtime.sample.metrics.report` writes it."""

    rows: list[Row]
    not_computed: dict[str, str]
    iou_by_azimuth: dict[int, float]
    protocol: dict[str, Any]
    pairs: list[dict[str, Any]] = field(default_factory=list)


def summarise(evaluator: GridEvaluator, bootstrap: int = 200, seed: int = 0) -> Summary:
    """Means over pairs of the per-pair means, Fréchet distances over all clips, intervals over pairs.

    Args:
        bootstrap: resamplings of the pairs, with replacement; 0 leaves the intervals out.
    """
    count = len(evaluator.pairs)
    draws = np.random.default_rng(seed).integers(0, count, size=(bootstrap if count > 1 else 0, count))
    rows, missing = [], dict(evaluator.not_computed)
    for metric in evaluator.settings.metrics:
        row = (_frechet_row if metric in FRECHET else _mean_row)(evaluator, metric, draws)
        if row is not None:
            rows.append(row)
        else:
            missing.setdefault(metric, "no cell to measure")
    return Summary(rows, missing, _azimuths(evaluator), common_protocol(evaluator, bootstrap, seed), _pairs(evaluator))


def interval(estimate: float, resampled: list[float], floor: float = -math.inf) -> tuple[float, float]:
    """95 % bootstrap interval around the estimate.

    Quantiles of the resampled values, moved so that their mean lies on the estimate: drawing with replacement
    leaves fewer distinct samples, which raises a Fréchet distance whatever the truth is.
    """
    values = np.asarray(resampled)
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) + estimate - values.mean()
    return max(float(low), floor), max(float(high), floor)


def _mean_row(evaluator: GridEvaluator, metric: str, draws: np.ndarray) -> Row | None:
    values = np.array([pair.values[metric] for pair in evaluator.pairs])
    if np.isnan(values).all():
        return None
    bounds = _bounds(lambda chosen: float(np.nanmean(values[chosen])), float(np.nanmean(values)), draws, values)
    protocol = PIXEL_PROTOCOLS.get(metric) or evaluator.pair_metrics[metric].protocol
    cells = sum(pair.scored_cells for pair in evaluator.pairs)
    samples = f"{int((~np.isnan(values)).sum())} pairs, {cells} cells"
    better = "higher" if metric in HIGHER else "lower"
    return Row(metric, NAMES.get(metric, metric), better, float(np.nanmean(values)), *bounds, samples, protocol)


def _bounds(
    statistic: Callable[[np.ndarray], float], estimate: float, draws: np.ndarray, values: np.ndarray
) -> tuple[float | None, float | None]:
    resampled = [statistic(chosen) for chosen in draws if not np.isnan(values[chosen]).all()]
    return interval(estimate, resampled) if resampled else (None, None)


def _frechet_row(evaluator: GridEvaluator, metric: str, draws: np.ndarray) -> Row | None:
    value = evaluator.frechet(metric)
    if value is None or evaluator.network is None:
        return None
    network, settings = evaluator.network, evaluator.settings
    name = FRECHET[metric] + ("*" if network.star else "")
    resampled = [evaluator.frechet(metric, chosen) for chosen in progress(draws, f"bootstrap of {name}")]
    values = [item for item in resampled if item is not None]
    low, high = interval(value, values, floor=0.0) if values else (None, None)
    cut = "whole" if settings.clip_frames is None else f"cut every {settings.clip_stride or settings.clip_frames}"
    frames = " or ".join(map(str, sorted(evaluator.clip_lengths[metric])))
    if metric == "fvd_v" and settings.wrap_views:
        cut += f", an orbit of fewer than {network.min_frames} views goes on from its first view"
    protocol = f"{network.name}, {network.checksum}; {ORDERS[metric]}; {cut}: {frames} frames; {network.preprocessing}"
    clips = evaluator.clip_count(metric)
    few = " (fewer than dimensions)" if clips <= evaluator.features[metric][0][0].shape[1] else ""
    return Row(metric, name, "lower", value, low, high, f"{clips} clips a side{few}", protocol)


def _azimuths(evaluator: GridEvaluator) -> dict[int, float]:
    centres = sorted({centre for pair in evaluator.pairs for centre in pair.iou_by_azimuth})
    return {
        centre: float(
            np.mean([pair.iou_by_azimuth[centre] for pair in evaluator.pairs if centre in pair.iou_by_azimuth])
        )
        for centre in centres
    }


def common_protocol(evaluator: GridEvaluator, bootstrap: int, seed: int) -> dict[str, Any]:
    """What holds for every row."""
    settings = evaluator.settings
    shapes = sorted({pair.shape for pair in evaluator.pairs})
    return {
        "grids": [f"{V} views × {F} frames at {H}×{W}" for V, F, H, W in shapes],
        "pairs": len(evaluator.pairs),
        "background": settings.background,
        "cells": "all" if settings.all_cells else "novel (all where the prediction marks every cell as known)",
        "resize": settings.resize,
        "intersect": settings.intersect,
        "relative_azimuth": settings.relative_azimuth,
        "clip_frames": settings.clip_frames,
        "clip_stride": settings.clip_stride,
        "wrap_views": settings.wrap_views,
        "interval": f"95 %, {bootstrap} resamplings of pairs, seed {seed}, centred on the estimate",
        "mean": "over the cells of a pair, then over pairs",
    }


def _pairs(evaluator: GridEvaluator) -> list[dict[str, Any]]:
    return [
        {
            "name": pair.name,
            "shape": pair.shape,
            "scored_cells": pair.scored_cells,
            "values": pair.values,
            "iou_by_azimuth": pair.iou_by_azimuth,
            "notes": pair.notes,
        }
        for pair in evaluator.pairs
    ]
