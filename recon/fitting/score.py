"""Scores of rendered cells against true ones, by the protocol of `viewtime evaluate`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from einops import rearrange

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.json_files import finite_json
from viewtime.log import log
from viewtime.sample.metrics.evaluator import Settings, evaluate_pair
from viewtime.sample.metrics.networks.perceptual import Lpips

from .targets import mask_from_colour

# Name here -> metric of `viewtime.sample.metrics`.
METRICS = {"psnr": "psnr", "crop_psnr": "object_crop_psnr", "ssim": "ssim", "iou": "mask_iou", "flicker": "flicker"}
WHOLE = ("psnr", "ssim", "flicker")  # of pictures that are no cut-out object


def with_mask(grid: FrameGrid) -> FrameGrid:
    """The grid with an alpha channel; from the background's colour where it has none."""
    if grid.has_alpha:
        return grid
    frames = torch.cat([grid.frames, mask_from_colour(grid.rgb())], dim=2)
    return FrameGrid(frames, grid.known, grid.cameras, grid.fps, grid.provenance)


def scores(rendered: FrameGrid, truth: FrameGrid, names: tuple[str, ...] = tuple(METRICS)) -> dict[str, float]:
    """Means over cells: psnr and crop_psnr (dB, on white), ssim, iou, and flicker where there are frames to compare.

    `names` chooses among them; for `WHOLE` the truth needs no mask. Every cell is scored, also those
    that were given, but not those whose truth is broken (not finite).
    """
    truth = truth if names == WHOLE else with_mask(truth)
    values = evaluate_pair(rendered, truth, Settings(metrics=tuple(METRICS[name] for name in names), all_cells=True))
    return {name: values[METRICS[name]] for name in names if math.isfinite(values[METRICS[name]])}


def held_out_scores(rendered: FrameGrid, truth: FrameGrid, names: tuple[str, ...] = tuple(METRICS)) -> dict[str, float]:
    """As `scores`, with lpips (AlexNet, on white) where its weights are on this machine; nothing is downloaded."""
    result = scores(rendered, truth, names)
    try:
        distance = Lpips(offline=True)
    except UserError as error:
        log.info("LPIPS is left out: %s", error)
        return result
    first, second = (rearrange(grid.rgb(), "v f c h w -> (v f) c h w") for grid in (rendered, truth))
    finite = torch.isfinite(second).flatten(1).all(dim=1)
    result["lpips"] = float(distance(first[finite], second[finite]).mean())
    return result


def write_scores(record: dict, path: Path) -> Path:
    """Write a fit's record and say its PSNR, and IoU or SSIM, of the held-out views where there are any."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(finite_json(record), indent=1))
    shown, where = (record["held_out"], "held-out") if "held_out" in record else (record["train"], "training")
    other = ("mask IoU", shown["iou"]) if "iou" in shown else ("SSIM", shown["ssim"])
    log.info("%s views: PSNR %.2f dB, %s %.3f", where, shown["psnr"], *other)
    return path
