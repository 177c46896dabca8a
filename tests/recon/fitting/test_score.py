"""Scores of held-out views: LPIPS where its weights are at hand, a clear line where they are not."""

import logging

import pytest
import torch
from scenes import training_grid

import viewtime.recon.fitting.score as score
from viewtime.errors import UserError


class Distance:
    """Stands in for LPIPS: mean absolute difference of the pictures on white."""

    def __init__(self, offline):
        assert offline  # fitting an asset must never start a download

    def __call__(self, first, second):
        return (first - second).abs().mean(dim=(1, 2, 3))


def test_lpips_is_the_mean_over_pictures_on_white(monkeypatch):
    monkeypatch.setattr(score, "Lpips", Distance)
    truth, other = training_grid(2, 3, 32), training_grid(2, 3, 32)
    other.frames[1, 2, :3] = 0
    result = score.held_out_scores(other, truth)
    wanted = (truth.rgb() - other.rgb()).abs().mean()
    assert result["lpips"] == pytest.approx(float(wanted), abs=1e-6)
    assert result["psnr"] == score.scores(other, truth)["psnr"]


def test_without_weights_the_log_says_so(monkeypatch, caplog):
    def missing(offline):
        raise UserError("LPIPS needs alexnet.pth in /cache, and downloads are off")

    monkeypatch.setattr(score, "Lpips", missing)
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    grid = training_grid(2, 1, 32)
    with caplog.at_level("INFO", logger="viewtime"):
        assert "lpips" not in score.held_out_scores(grid, grid)
    assert "alexnet.pth" in caplog.text


def test_cells_with_nan_are_left_out(monkeypatch):
    monkeypatch.setattr(score, "Lpips", Distance)
    grid = training_grid(2, 2, 32)
    frames = grid.frames.clone()
    frames[0, 1, 0, 3, 3] = torch.nan
    damaged = type(grid)(frames, grid.known, grid.cameras, grid.fps)
    result = score.held_out_scores(grid, damaged)
    assert result["lpips"] == 0.0
    assert result["iou"] == 1.0
