"""Numbers of the measures at fixed pictures: by hand where that is short, else pins, on which published tables rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.pins import assert_pinned
from viewtime.cameras import regular_orbit
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.measures import image, reaction
from viewtime.sample.metrics.networks.filter_bank import FilterBank, spatial_kernels, temporal_kernels
from viewtime.sample.metrics.summary import interval


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def grid(views: int = 6, frames: int = 7, size: int = 12) -> FrameGrid:
    cells = noise(views, frames, 4, size, size + 2)
    return FrameGrid(cells, torch.zeros(views, frames, dtype=torch.bool), regular_orbit(views, frames), 10.0)


def test_the_filters_are_what_their_formulas_say() -> None:
    spatial, temporal = spatial_kernels().double(), temporal_kernels()
    assert spatial.shape == (8, 1, 9, 9)
    for pair in spatial.unflatten(0, (4, 2)):
        assert float(pair.square().sum()) == pytest.approx(1, abs=1e-5)
        assert float(pair.sum()) == pytest.approx(0, abs=1e-5)
    # A wave of four pixels along x answers the first filter alone, the same turned a quarter the third.
    wave = torch.cos(torch.arange(-4.0, 5.0) * math.pi / 2).double()
    answers = [float((pair[0, 0] * wave[None]).sum()) for pair in spatial.unflatten(0, (4, 2))]
    turned = [float((pair[0, 0] * wave[:, None]).sum()) for pair in spatial.unflatten(0, (4, 2))]
    assert answers[0] > 5 * abs(answers[1]) > 5 * abs(answers[2])
    assert turned[2] == pytest.approx(answers[0], rel=1e-4)
    assert temporal.shape == (4, 4)
    assert temporal[0].real.tolist() == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8])
    turning = torch.tensor([1, 1j, -1, -1j])
    assert (temporal @ turning).abs().tolist() == pytest.approx(
        [1 / math.sqrt(8), 1.0, 0.0, 1 / math.sqrt(8)], abs=1e-4
    )
    assert_pinned("spatial", spatial, 1e-5)


def test_features_of_a_clip() -> None:
    bank = FilterBank()
    clips = bank.prepare(noise(12, 3, 40, 30)).unflatten(0, (2, 6))
    assert clips.shape == (2, 6, 3, 64, 64)
    features = bank(clips)
    assert features.shape == (2, 108)
    assert_pinned("features", features, 1e-4)
    still = bank(clips[:, :1].expand(-1, 6, -1, -1, -1))
    assert_pinned("still", still, 1e-3)
    with pytest.raises(UserError, match="clips of 3 frames; the filter bank needs at least 4"):
        bank(clips[:, :3])
    assert bank(clips[:, :4]).shape == (2, 108)


def test_planted_faults() -> None:
    truth = grid()
    for fault in reaction.DEGRADATIONS[:5]:
        assert fault.apply is not None
        for strength in fault.strengths[:2]:
            assert_pinned(f"{fault.name} {strength}", fault.apply(truth, strength), 1e-4)
    assert reaction._exchanged(8, 2).tolist() == [0, 5, 2, 7, 4, 1, 6, 3]
    assert reaction._exchanged(8, 9).tolist() == [0, 5, 2, 7, 4, 1, 6, 3]
    assert reaction._exchanged(7, 1).tolist() == [0, 4, 2, 3, 1, 5, 6]
    lagged = reaction.lag(truth, 2)
    assert torch.equal(lagged[::2], truth.frames[::2])
    assert torch.equal(lagged[1, 2], truth.frames[1, 0])
    seen: list[Tensor] = []

    def scene(wrong: Tensor) -> FrameGrid:
        seen.append(wrong)
        return truth

    for fault, wanted in zip(reaction.DEGRADATIONS[5:], ([5.0, 0.0] * 3, [5.0] * 6)):
        reaction.degraded(scene, truth, fault, 5)
        assert seen[-1].tolist() == wanted


def test_measures_of_a_cell() -> None:
    first, second = grid().frames, noise(6, 7, 4, 12, 14, seed=1)
    for name in ("psnr", "object_crop_psnr", "foreground_psnr", "ssim", "mask_iou", "flicker"):
        for background in (1.0, 0.3):
            assert_pinned(f"{name} {background}", getattr(image, name)(first, second, background), 1e-5)
    apart = torch.full((1, 1, 3, 11, 11), 0.5)
    assert float(image.psnr(apart, apart + 0.1)) == pytest.approx(20)
    assert float(image.psnr(apart, apart)) == 100
    assert float(image.ssim(apart, apart + 0.1)) == pytest.approx((2 * 0.3 + 1e-4) / (0.25 + 0.36 + 1e-4))
    with pytest.raises(UserError, match="SSIM needs images of at least 11 pixels"):
        image.ssim(apart[..., :10], apart[..., :10])


def test_boxes_and_masks() -> None:
    mask = torch.zeros(1, 3, 10, 12, dtype=torch.bool)
    mask[0, 0, 4:6, 5:9] = True
    mask[0, 1, 0, 11] = True
    assert image.object_boxes(mask) == [(2, 8, 3, 11), (0, 3, 9, 12), None]
    frames = torch.full((1, 1, 4, 1, 4), 1.0)
    frames[0, 0, 3, 0] = torch.tensor([0.5, 0.51, 1.0, 0.0])
    frames[0, 0, 0, 0, 2] = 0.94
    assert image.object_mask(frames)[0, 0, 0].tolist() == [False, True, True, False]
    assert image.object_mask(frames, use_alpha=False)[0, 0, 0].tolist() == [False, False, True, False]
    assert image.object_mask(frames, 0.5, use_alpha=False)[0, 0, 0].tolist() == [True, True, True, False]
    assert image.object_mask(frames[:, :, :3] * 0.951)[0, 0, 0].tolist() == [False, False, True, False]
    empty = torch.ones(1, 1, 3, 4, 4)
    assert float(image.mask_iou(empty, empty)) == 1
    assert math.isnan(float(image.object_crop_psnr(empty, empty)))
    assert math.isnan(float(image.foreground_psnr(empty, empty)))


def test_an_interval_is_moved_onto_the_estimate() -> None:
    values = [float(value) for value in range(101)]
    assert interval(10.0, values) == pytest.approx((10 - 47.5, 10 + 47.5))
    assert interval(10.0, values, floor=0.0) == pytest.approx((0, 57.5))
    assert interval(-99.0, values, floor=0.0) == (0, 0)
