"""Scores of grids against their truth: one pair at once, or many, streaming features and not frames."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.measures.frechet import frechet_distance
from viewtime.sample.metrics.measures.pairs import make_alike, resample
from viewtime.sample.metrics.measures.traversal import PATHS, gather, windows, wrapped
from viewtime.sample.metrics.networks.perceptual import ImagePairMetric
from viewtime.sample.metrics.networks.video import VideoNetwork

from .measures import image

PIXEL_METRICS = {
    "psnr": image.psnr,
    "object_crop_psnr": image.object_crop_psnr,
    "foreground_psnr": image.foreground_psnr,
    "ssim": image.ssim,
    "mask_iou": image.mask_iou,
}
FRECHET = {"fvd_f": "FVD-F", "fvd_v": "FVD-V", "fvd_diag": "FVD-Diag", "fv4d": "FV4D"}
FRAMES_PER_CALL = 128  # prepared frames given to a network at once (a longer clip goes alone)
THUMBNAIL = 128  # pixels; size of the worst cells kept for the picture
WORST_CELLS = 8
AZIMUTH_BIN = 30.0  # degrees


@dataclass(frozen=True)
class Settings:
    """What is measured and how; `docs/metrics.md` is the protocol.

    Attributes:
        metrics: names of pixel metrics, "flicker", names of pair metrics, and Fréchet distances.
        background: grey level under transparent pixels.
        all_cells: also score cells that the prediction was given as input.
        clip_frames: cut each path into clips of that many cells; None keeps a path's clips whole.
        clip_stride: cells between the starts of two clips; None: `clip_frames`.
        wrap_views: FVD-V's clips that are too short for the network go on from their first view.
    """

    metrics: tuple[str, ...] = ("psnr", "object_crop_psnr", "ssim", "mask_iou", "flicker")
    background: float = 1.0
    all_cells: bool = False
    clip_frames: int | None = None
    clip_stride: int | None = None
    resize: bool = False
    intersect: bool = False
    relative_azimuth: bool = False
    wrap_views: bool = False


@dataclass
class PairScore:
    """One pair's numbers: `values` per metric, `cells` per metric [V, F] (NaN where not scored)."""

    name: str
    shape: tuple[int, int, int, int]
    scored_cells: int
    values: dict[str, float]
    cells: dict[str, Tensor]
    iou_by_azimuth: dict[int, float]
    notes: list[str]


@dataclass(order=True)
class WorstCell:
    """A cell to show: its error (larger is worse) and both pictures [3, h, w]."""

    error: float
    order: int
    label: str = field(compare=False)
    pred: Tensor = field(compare=False)
    gt: Tensor = field(compare=False)


class GridEvaluator:
    """Accumulates pairs. Keeps numbers, feature vectors and the eight worst cells; never the frames of a grid.

    Args:
        settings: what to measure.
        video_network: needed for the Fréchet distances.
        pair_metrics: perceptual metrics by the name they are asked for ("lpips", "st_lpips", "lpips_star", "clip_s").

    Raises:
        UserError: a metric is unknown or what it needs was not given.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        video_network: VideoNetwork | None = None,
        pair_metrics: dict[str, ImagePairMetric] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.network, self.pair_metrics = video_network, pair_metrics or {}
        known = [*PIXEL_METRICS, "flicker", *FRECHET, *self.pair_metrics]
        for name in self.settings.metrics:
            if name in FRECHET and video_network is None:
                raise UserError(f"{name} needs a video feature network; none was given")
            if name not in known:
                raise UserError(f"unknown metric {name!r}; one of: {', '.join(known)}")
        self.pairs: list[PairScore] = []
        # Per path one entry per pair: (features of the prediction's clips, of the truth's), float32 [clips, D].
        self.features: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
            name: [] for name in self.settings.metrics if name in FRECHET
        }
        self.clip_lengths: dict[str, set[int]] = {name: set() for name in self.features}
        self.not_computed: dict[str, str] = {}
        self.worst: list[WorstCell] = []

    @torch.no_grad()
    def add(self, pred: FrameGrid, gt: FrameGrid, name: str = "") -> PairScore:
        """Score one pair and remember what the summary needs.

        Raises:
            UserError: the grids differ in a way that the settings do not put right, says in what; or a scored
                cell of the prediction is not finite.
        """
        options = self.settings
        pred, gt, notes = make_alike(pred, gt, options.resize, options.intersect, options.relative_azimuth)
        scored = scored_cells(pred, options.all_cells)
        broken = ~torch.isfinite(gt.frames).flatten(2).all(dim=2)
        if broken.any():
            notes = [*notes, f"{int(broken.sum())} cells of the truth have values that are not finite: left out"]
            scored = scored & ~broken
        diverged = scored & ~torch.isfinite(pred.frames).flatten(2).all(dim=2)
        if diverged.any():
            raise UserError(f"{int(diverged.sum())} of {int(scored.sum())} predicted cells are not finite; no score")
        cells = {metric: self._cells(metric, pred, gt, scored) for metric in self._cell_metrics()}
        values = {metric: _mean(cell) for metric, cell in cells.items()}
        if "flicker" in options.metrics:
            values["flicker"] = self._flicker(pred, gt, scored)
        V, F, _, H, W = gt.shape
        by_azimuth = _by_azimuth(cells["mask_iou"], pred, gt) if "mask_iou" in cells else {}
        score = PairScore(
            name or f"pair {len(self.pairs)}", (V, F, H, W), int(scored.sum()), values, cells, by_azimuth, notes
        )
        if self.features:
            self._add_features(pred, gt, scored)
        self._remember_worst(score, pred, gt)
        self.pairs.append(score)
        return score

    def frechet(self, metric: str, chosen: list[int] | np.ndarray | None = None) -> float | None:
        """The distance over the pairs chosen (with repetition; default: all); None where there are no clips."""
        entries = self.features[metric]
        indices = range(len(entries)) if chosen is None else chosen
        first = [entries[index][0] for index in indices if len(entries[index][0])]
        second = [entries[index][1] for index in indices if len(entries[index][1])]
        return frechet_distance(np.concatenate(first), np.concatenate(second)) if first else None

    def clip_count(self, metric: str) -> int:
        """Clips per side that a Fréchet distance is computed from."""
        return sum(len(pred) for pred, _ in self.features[metric])

    def _cell_metrics(self) -> list[str]:
        return [name for name in self.settings.metrics if name in PIXEL_METRICS or name in self.pair_metrics]

    def _cells(self, metric: str, pred: FrameGrid, gt: FrameGrid, scored: Tensor) -> Tensor:
        """[V, F] float64, NaN where not scored; one view at a time, which bounds the copies in float64."""
        rows = []
        for view in range(gt.shape[0]):
            if metric in PIXEL_METRICS:
                pixels = pred.frames[view : view + 1], gt.frames[view : view + 1]
                rows.append(PIXEL_METRICS[metric](*pixels, self.settings.background)[0].double())
            else:
                images = (grid[view].rgb(self.settings.background)[0] for grid in (pred, gt))
                rows.append(self.pair_metrics[metric](*images).double())
        return torch.where(scored, torch.stack(rows), torch.nan)

    def _flicker(self, pred: FrameGrid, gt: FrameGrid, scored: Tensor) -> float:
        if gt.shape[1] < 2:
            self.not_computed["flicker"] = "a grid has one frame only"
            return float("nan")
        rows = [
            image.flicker(pred.frames[view : view + 1], gt.frames[view : view + 1], self.settings.background)[0]
            for view in range(gt.shape[0])
        ]
        return _mean(torch.where(scored[:, 1:] & scored[:, :-1], torch.stack(rows), torch.nan))

    def _add_features(self, pred: FrameGrid, gt: FrameGrid, scored: Tensor) -> None:
        views, frames = scored.any(dim=1).nonzero().flatten(), scored.any(dim=0).nonzero().flatten()
        prepared = [self._prepared(grid[views, frames]) for grid in (pred, gt)]
        for metric, entries in self.features.items():
            path = PATHS[FRECHET[metric]](len(views), len(frames))
            clips = [
                part for clip in path for part in windows(clip, self.settings.clip_frames, self.settings.clip_stride)
            ]
            network = self._needed_network()
            if metric == "fvd_v" and self.settings.wrap_views:
                clips = [wrapped(clip, network.min_frames) for clip in clips]
            shortest = min((len(clip) for clip in clips), default=0)
            if shortest < network.min_frames:
                length = f"clips of {shortest} frames" if clips else f"no clip of {self.settings.clip_frames} frames"
                self.not_computed[metric] = f"{length}; {network.name} needs at least {network.min_frames}"
                entries.append((np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)))
                continue
            entries.append((self._embed(prepared[0], clips), self._embed(prepared[1], clips)))
            self.clip_lengths[metric].add(shortest)

    def _prepared(self, grid: FrameGrid) -> Tensor:
        """Every cell once at the network's size, [V, F, 3, h, w]: a cell lies on four paths."""
        network = self._needed_network()
        rows = [network.prepare(grid[view].rgb(self.settings.background)[0]) for view in range(grid.shape[0])]
        return torch.stack(rows)

    def _embed(self, prepared: Tensor, clips: list) -> np.ndarray:
        step = max(1, FRAMES_PER_CALL // len(clips[0]))
        parts = [
            self._needed_network()(torch.stack([gather(prepared, clip) for clip in clips[start : start + step]]))
            for start in range(0, len(clips), step)
        ]
        return torch.cat(parts).numpy()

    def _needed_network(self) -> VideoNetwork:
        assert self.network is not None, "the constructor refuses Fréchet distances without a network"
        return self.network

    def _remember_worst(self, score: PairScore, pred: FrameGrid, gt: FrameGrid) -> None:
        metric = heat_metric(score)
        if metric is None:
            return
        error = error_map(score.cells[metric], metric)
        for index in error.flatten().nan_to_num(-torch.inf).topk(min(WORST_CELLS, error.numel())).indices.tolist():
            view, frame = divmod(index, error.shape[1])
            value = error[view, frame].item()
            full = len(self.worst) == WORST_CELLS
            if np.isnan(value) or (full and value <= self.worst[0].error):
                continue
            scale = min(1.0, THUMBNAIL / max(gt.shape[3:]))
            size = (round(gt.shape[3] * scale), round(gt.shape[4] * scale))
            pictures = [resample(grid[view, frame].rgb(self.settings.background), size)[0, 0] for grid in (pred, gt)]
            label = f"{score.name} v{view} f{frame}"
            cell = WorstCell(value, len(self.pairs) * 10_000 + index, label, pictures[0], pictures[1])
            (heapq.heapreplace if full else heapq.heappush)(self.worst, cell)


def scored_cells(pred: FrameGrid, all_cells: bool = False) -> Tensor:
    """[V, F] bool: the cells that were not given as input; all of them where every cell is marked as known."""
    return torch.ones_like(pred.known) if all_cells or pred.known.all() else ~pred.known


def heat_metric(score: PairScore) -> str | None:
    """The metric whose map is shown: the first perceptual one, else object-crop PSNR, else PSNR."""
    for name in ("lpips", "st_lpips", "lpips_star", "object_crop_psnr", "psnr"):
        if name in score.cells:
            return name
    return None


def error_map(cells: Tensor, metric: str) -> Tensor:
    """Cells of a metric as an error: larger is worse."""
    return cells if "lpips" in metric else -cells


def evaluate_pair(
    pred: FrameGrid,
    gt: FrameGrid,
    settings: Settings | None = None,
    video_network: VideoNetwork | None = None,
    pair_metrics: dict[str, ImagePairMetric] | None = None,
) -> dict[str, Any]:
    """Score one grid against its truth.

    Returns:
        One float per metric of the settings (NaN where it cannot be computed), `iou_by_azimuth` (degrees relative
        to the input view -> IoU, where mask IoU was asked for), `cells` (metric -> [V, F]), `notes`, and
        `not_computed` (metric -> reason).

    Raises:
        UserError: the grids differ; see `GridEvaluator`.
    """
    evaluator = GridEvaluator(settings, video_network, pair_metrics)
    score = evaluator.add(pred, gt)
    values: dict[str, Any] = dict(score.values)
    for metric in evaluator.features:
        distance = evaluator.frechet(metric)
        values[metric] = float("nan") if distance is None else distance
    return values | {
        "iou_by_azimuth": score.iou_by_azimuth,
        "cells": score.cells,
        "notes": score.notes,
        "not_computed": evaluator.not_computed,
    }


def _mean(cells: Tensor) -> float:
    return cells.double().nanmean().item()


def _by_azimuth(iou: Tensor, pred: FrameGrid, gt: FrameGrid) -> dict[int, float]:
    """Mean IoU per 30° of azimuth, measured from the first view that was given (else view 0)."""
    cameras = gt.cameras or pred.cameras
    if cameras is None:
        return {}
    given = pred.known.all(dim=1).nonzero().flatten()
    origin = int(given[0]) if len(given) and not pred.known.all() else 0
    bins = torch.round(cameras.rezero(origin).azimuth / AZIMUTH_BIN).long() * int(AZIMUTH_BIN) % 360
    flat, values = rearrange(bins, "v f -> (v f)"), rearrange(iou, "v f -> (v f)")
    means = {int(centre): values[flat == centre].nanmean().item() for centre in flat.unique()}
    return {centre: mean for centre, mean in means.items() if not np.isnan(mean)}
