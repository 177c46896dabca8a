"""Image metrics against scikit-image and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from einops import rearrange

from viewtime.errors import UserError
from viewtime.sample.metrics.measures.image import (
    flicker,
    foreground_psnr,
    mask_iou,
    object_boxes,
    object_crop_psnr,
    object_mask,
    psnr,
    ssim,
)

skimage_metrics = pytest.importorskip("skimage.metrics")


def pair(views: int = 2, frames: int = 3, size: int = 32, channels: int = 3):
    generator = torch.Generator().manual_seed(3)
    gt = torch.ones(views, frames, channels, size, size)
    gt[..., 6:20, 8:22] = torch.rand(views, frames, channels, 14, 14, generator=generator)
    pred = (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    return pred, gt


def scikit_ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two images [C, H, W], with the settings of Wang et al. 2004."""
    images = (rearrange(image, "c h w -> h w c").double().numpy() for image in (first, second))
    return skimage_metrics.structural_similarity(
        *images,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )


def test_psnr_and_ssim_equal_scikit_image() -> None:
    pred, gt = pair(size=41)
    ours_psnr, ours_ssim = psnr(pred, gt), ssim(pred, gt)
    for view in range(2):
        for frame in range(3):
            a, b = pred[view, frame].double(), gt[view, frame].double()
            theirs = skimage_metrics.peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1)
            assert ours_psnr[view, frame].item() == pytest.approx(theirs, abs=1e-6)
            assert ours_ssim[view, frame].item() == pytest.approx(scikit_ssim(b, a), abs=1e-6)


def test_ssim_keeps_precision_on_a_plain_background() -> None:
    """In float32 the variances of a nearly white image are lost to rounding."""
    gt = torch.full((1, 1, 3, 24, 24), 0.999)
    pred = gt.clone()
    pred[..., 12, 12] = 0.99
    assert ssim(pred, gt).item() == pytest.approx(scikit_ssim(gt[0, 0], pred[0, 0]), abs=1e-6)


def test_equal_images_score_the_limit() -> None:
    _, gt = pair()
    assert torch.equal(psnr(gt, gt), torch.full((2, 3), 100.0, dtype=torch.float64))
    assert torch.allclose(ssim(gt, gt), torch.ones(2, 3, dtype=torch.float64))
    assert torch.equal(mask_iou(gt, gt), torch.ones(2, 3))
    assert flicker(gt, gt).abs().max() == 0


def test_object_crop_by_hand() -> None:
    gt = torch.ones(1, 2, 3, 20, 30)
    gt[0, 0, :, 5:9, 10:16] = 0.0
    pred = gt.clone()
    pred[0, 0, :, 5, 10] = 1.0  # one of (4 + 4) × (6 + 4) pixels wrong by 1
    pred[0, 0, :, 18, 28] = 0.0  # outside the crop: must not count
    value = object_crop_psnr(pred, gt)
    assert value[0, 0].item() == pytest.approx(-10 * np.log10(1 / 80))
    assert torch.isnan(value[0, 1])
    pred[0, 0, :, 10, 17] = 0.0  # in the crop, beside the object's 24 pixels
    value = foreground_psnr(pred, gt)
    assert value[0, 0].item() == pytest.approx(-10 * np.log10(1 / 24))
    assert torch.isnan(value[0, 1])
    assert object_boxes(object_mask(gt)) == [(3, 11, 8, 18), None]


def test_box_stops_at_the_image_edge() -> None:
    mask = torch.zeros(1, 1, 10, 12, dtype=torch.bool)
    mask[0, 0, 0, 11] = True
    assert object_boxes(mask) == [(0, 3, 9, 12)]


def test_crop_psnr_is_blind_to_the_size_of_the_background() -> None:
    pred, gt = pair()
    pred[..., :4, :] = pred[..., 22:, :] = pred[..., :6] = pred[..., 24:] = 1.0
    wide_pred, wide_gt = (torch.nn.functional.pad(x, (20, 20, 20, 20), value=1.0) for x in (pred, gt))
    assert torch.allclose(object_crop_psnr(pred, gt), object_crop_psnr(wide_pred, wide_gt))
    assert (psnr(wide_pred, wide_gt) > psnr(pred, gt) + 5).all()


def test_mask_iou_by_hand_from_alpha_and_from_the_background() -> None:
    def square(left: int, alpha: bool) -> torch.Tensor:
        frames = torch.ones(1, 1, 4 if alpha else 3, 16, 16)
        frames[:, :, :3, 4:8, left : left + 4] = 0.2
        if alpha:
            frames[:, :, 3] = 0.0
            frames[:, :, 3, 4:8, left : left + 4] = 0.9
        return frames

    for alpha in (True, False):
        assert mask_iou(square(4, alpha), square(6, alpha)).item() == pytest.approx(8 / 24)
    # One side without alpha: both are measured by the distance to the background.
    assert mask_iou(square(4, True), square(4, False)).item() == 1.0
    empty = torch.ones(1, 1, 3, 16, 16)
    assert mask_iou(empty, empty).item() == 1.0
    assert mask_iou(empty, square(4, False)).item() == 0.0


def test_white_object_with_alpha_keeps_its_mask() -> None:
    frames = torch.ones(1, 1, 4, 8, 8)
    frames[:, :, 3, :, :4] = 0.0
    assert object_mask(frames).sum() == 32
    assert object_mask(frames, use_alpha=False).sum() == 0


def test_flicker_sees_changes_of_the_error_only() -> None:
    gt = pair(views=1, frames=4)[1] * 0.5
    assert flicker(gt + 0.1, gt).max() < 1e-7
    alternating = gt.clone()
    alternating[:, 1::2] += 0.25
    assert torch.allclose(flicker(alternating, gt), torch.full((1, 3), 0.25, dtype=torch.float64), atol=1e-6)


def test_alpha_is_composited_over_the_background() -> None:
    rgba = torch.zeros(1, 1, 4, 16, 16)
    assert psnr(rgba, torch.ones(1, 1, 3, 16, 16)).item() == 100.0
    assert psnr(rgba, torch.ones(1, 1, 3, 16, 16), background=0.5).item() == pytest.approx(6.0206, abs=1e-4)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="differ in views, frames or size"):
        psnr(torch.zeros(1, 2, 3, 16, 16), torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(UserError, match="11 pixels"):
        ssim(torch.zeros(1, 2, 3, 8, 16), torch.zeros(1, 2, 3, 8, 16))
    with pytest.raises(UserError, match="2 frames"):
        flicker(torch.zeros(1, 1, 3, 8, 8), torch.zeros(1, 1, 3, 8, 8))
