"""Pairs in, numbers out: identical grids, known cells, differing grids, and what stays in memory."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch

from tests.sample.metrics.conftest import like
from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.evaluator import FRECHET, GridEvaluator, Settings, evaluate_pair
from viewtime.sample.metrics.measures.image import psnr
from viewtime.sample.metrics.measures.reaction import blur
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.perceptual import LpipsStar
from viewtime.sample.metrics.summary import interval, summarise

BANK = FilterBank()
STAR = {"lpips_star": LpipsStar(BANK)}
ALL = ("psnr", "object_crop_psnr", "ssim", "mask_iou", "lpips_star", "flicker", *FRECHET)


def evaluator(**options) -> GridEvaluator:
    return GridEvaluator(Settings(metrics=ALL, **options), BANK, STAR)


def test_identical_grids(spheres: FrameGrid) -> None:
    values = evaluate_pair(spheres, spheres, Settings(metrics=ALL), BANK, STAR)
    assert {name: values[name] for name in FRECHET} == dict.fromkeys(FRECHET, 0.0)
    assert values["psnr"] == values["object_crop_psnr"] == 100.0
    assert values["ssim"] == pytest.approx(1.0)
    assert values["mask_iou"] == 1.0
    assert values["lpips_star"] == values["flicker"] == 0.0
    assert values["iou_by_azimuth"] == dict.fromkeys((0, 60, 120, 180, 240, 300), 1.0)


def test_given_cells_are_left_out(spheres: FrameGrid) -> None:
    frames = blur(spheres, 1.0)
    frames[0] = spheres.frames[0]
    pred = like(spheres, frames, given_views=1)
    values = evaluate_pair(pred, spheres)
    assert values["psnr"] == pytest.approx(psnr(frames[1:], spheres.frames[1:]).mean().item())
    assert torch.isnan(values["cells"]["psnr"][0]).all()
    assert set(values["iou_by_azimuth"]) == {60, 120, 180, 240, 300}
    everything = evaluate_pair(pred, spheres, Settings(all_cells=True))
    assert everything["psnr"] == pytest.approx(psnr(frames, spheres.frames).mean().item())
    assert everything["psnr"] > values["psnr"] + 5


def test_given_views_are_not_in_the_clips(spheres: FrameGrid) -> None:
    scorer = evaluator()
    scorer.add(like(spheres, spheres.frames.clone(), given_views=2), spheres)
    counts = {name: scorer.clip_count(name) for name in FRECHET}
    assert counts == {"fvd_f": 4, "fvd_v": 8, "fvd_diag": 4, "fv4d": 1}
    assert scorer.clip_lengths == {"fvd_f": {8}, "fvd_v": {4}, "fvd_diag": {8}, "fv4d": {32}}


def test_clips_too_short_for_the_network_are_reported_not_scored(spheres: FrameGrid) -> None:
    scorer = evaluator()
    scorer.add(like(spheres[:3], spheres.frames[:3].clone()), spheres[:3])
    summary = summarise(scorer, bootstrap=0)
    assert summary.not_computed["fvd_v"] == "clips of 3 frames; filter bank needs at least 4"
    assert "FVD-V*" not in [row.name for row in summary.rows]
    assert "FVD-F*" in [row.name for row in summary.rows]


def test_clip_length_is_part_of_the_protocol(spheres: FrameGrid) -> None:
    scorer = evaluator(clip_frames=4, clip_stride=2)
    scorer.add(like(spheres, blur(spheres, 0.5)), spheres)
    assert scorer.clip_count("fvd_f") == 6 * 3
    assert scorer.clip_count("fv4d") == 23
    row = next(row for row in summarise(scorer, bootstrap=0).rows if row.metric == "fvd_f")
    assert "cut every 2: 4 frames" in row.protocol
    assert BANK.checksum in row.protocol


def test_pairs_add_up(spheres: FrameGrid) -> None:
    """Means over pairs; Fréchet distances over the clips of all pairs, which is not their mean."""
    scorer = evaluator()
    preds = [like(spheres, blur(spheres, sigma)) for sigma in (0.5, 1.5)]
    single = [evaluate_pair(pred, spheres, Settings(metrics=ALL), BANK, scorer.pair_metrics) for pred in preds]
    for pred in preds:
        scorer.add(pred, spheres)
    rows = {row.metric: row for row in summarise(scorer, bootstrap=50).rows}
    assert rows["psnr"].value == pytest.approx(np.mean([values["psnr"] for values in single]))
    assert rows["fvd_f"].samples.startswith("12 clips a side")
    assert rows["fvd_f"].value < np.mean([values["fvd_f"] for values in single])
    for row in rows.values():
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
        assert row.protocol


def test_interval_covers_a_known_mean() -> None:
    """95 % of intervals of the mean of 30 normal values hold the true mean; the bootstrap is a little short."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        values = rng.normal(5.0, 2.0, size=30)
        resampled = [float(rng.choice(values, 30).mean()) for _ in range(200)]
        low, high = interval(float(values.mean()), resampled)
        held += low <= 5.0 <= high
    assert 0.90 <= held / 300 <= 0.98


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grid: grid[:4], "views: 4 and 6"),
        (lambda grid: grid[:, :5], "frames: 5 and 8"),
        (lambda grid: like(grid, grid.frames[..., :40]), "size: 48×40 and 48×48"),
        (lambda grid: moved(grid, azimuth=10.0), "azimuth by up to 10.0"),
        (lambda grid: moved(grid, elevation=-3.0), "elevation by up to 3.0"),
        (lambda grid: moved(grid, scale=1.05), "distance by up to 5.0 %"),
        (lambda grid: moved(grid, fov=2.0), "field of view"),
        (lambda grid: grid[[0, 1, 3, 4, 5]], r"lacks: \[2\] \(azimuth 120°\)"),
    ],
)
def test_differing_grids_are_refused_with_what_differs(spheres: FrameGrid, change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_pair(change(spheres), spheres)


def moved(grid: FrameGrid, azimuth=0.0, elevation=0.0, scale=1.0, fov=0.0) -> FrameGrid:
    old = grid.cameras
    assert old is not None
    cameras = Cameras(old.elevation + elevation, old.azimuth + azimuth, old.distance * scale, old.fov_y + fov)
    return FrameGrid(grid.frames, grid.known, cameras, grid.fps)


def test_resize_and_intersect_say_what_they_did(spheres: FrameGrid) -> None:
    small = like(spheres, torch.nn.functional.avg_pool3d(spheres.frames, (1, 2, 2)))
    values = evaluate_pair(small, spheres, Settings(resize=True))
    assert values["notes"] == ["prediction resampled from 24×24 to the truth's 48×48 (bilinear, antialiasing)"]
    part = spheres[[5, 1, 3], :6]
    values = evaluate_pair(part, spheres, Settings(intersect=True))
    assert values["psnr"] == 100.0  # views are matched by azimuth, not by their order
    assert values["notes"] == [
        "3 views in common by azimuth and elevation (prediction 3, truth 6)",
        "6 frames in common by time (prediction 6, truth 8)",
    ]


def test_azimuth_zero_may_differ_on_request(spheres: FrameGrid) -> None:
    turned = moved(spheres, azimuth=250.0)
    assert evaluate_pair(turned, spheres, Settings(relative_azimuth=True))["psnr"] == 100.0


def test_grids_without_cameras_are_compared_by_index(spheres: FrameGrid) -> None:
    bare = FrameGrid(spheres.frames, spheres.known)
    values = evaluate_pair(bare, spheres)
    assert values["psnr"] == 100.0
    assert values["notes"] == ["the prediction has no cameras: views are compared by their index"]


def test_other_frame_rates_are_said(spheres: FrameGrid) -> None:
    slow = FrameGrid(spheres.frames, spheres.known, spheres.cameras, spheres.fps / 2)
    values = evaluate_pair(slow, spheres)
    assert len(values["notes"]) == 1
    assert "frame rates differ" in values["notes"][0]


def test_unknown_metric_and_missing_network() -> None:
    with pytest.raises(UserError, match="unknown metric 'psnrr'"):
        GridEvaluator(Settings(metrics=("psnrr",)))
    with pytest.raises(UserError, match="fvd_f needs a video feature network"):
        GridEvaluator(Settings(metrics=("fvd_f",)))


def test_a_frame_without_object_is_left_out_of_the_crop(spheres: FrameGrid) -> None:
    gt = like(spheres, spheres.frames.clone())
    gt.frames[2, 3, 3] = 0.0
    values = evaluate_pair(like(gt, blur(gt, 0.7)), gt)
    assert math.isfinite(values["object_crop_psnr"])
    assert torch.isnan(values["cells"]["object_crop_psnr"]).sum() == 1


def test_broken_cells_are_left_out_of_the_truth_and_refused_in_the_prediction(spheres: FrameGrid) -> None:
    broken = like(spheres, spheres.frames.clone())
    broken.frames[1, 2, 0, 3, 3] = torch.nan
    values = evaluate_pair(like(spheres, blur(spheres, 1.0)), broken, Settings(metrics=ALL[:5]), None, STAR)
    assert values["notes"] == ["1 cells of the truth have values that are not finite: left out"]
    assert all(torch.isnan(cells).sum() == 1 and torch.isnan(cells[1, 2]) for cells in values["cells"].values())
    with pytest.raises(UserError, match="1 of 48 predicted cells are not finite"):
        evaluate_pair(broken, spheres)


def test_memory_does_not_grow_with_frames() -> None:
    """What a further grid of 21 × 21 leaves behind: feature vectors and one map, and no frame."""
    scorer = GridEvaluator(Settings(metrics=("psnr", *FRECHET)), BANK)
    base = torch.rand(21, 21, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    known = torch.ones(21, 21, dtype=torch.bool)

    def held() -> int:
        gc.collect()
        tensors = (item for item in gc.get_objects() if type(item) is torch.Tensor)
        blocks = {item.untyped_storage().data_ptr(): item.untyped_storage().nbytes() for item in tensors}
        for array in (item for entries in scorer.features.values() for pair in entries for item in pair):
            blocks[array.ctypes.data] = array.nbytes
        return sum(blocks.values())

    def add() -> None:
        gt = FrameGrid(base.clone(), known)
        scorer.add(FrameGrid((base + 0.1 * torch.rand(1)).clamp(0, 1), known), gt)

    add()
    before, steps = held(), 6
    for _ in range(steps):
        add()
    growth = (held() - before) / steps
    features = 2 * 64 * 108 * 4  # 21 + 21 + 21 + 1 clips a side
    per_cell = 21 * 21 * 8  # one float64 map
    assert growth < 1.2 * (features + per_cell)
    assert growth < base.nbytes / 20
    assert 1000 * growth < 100e6  # bytes, for the thousand grids that are asked for
