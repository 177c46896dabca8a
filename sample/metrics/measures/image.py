"""Image metrics per cell of a grid: PSNR, object-crop PSNR, SSIM, mask IoU, temporal flicker error.

Every function takes prediction and truth as [V, F, C, H, W] in [0, 1], C = 3 (RGB) or 4 (RGBA, straight
alpha, composited over `background`), and returns one number per cell; `docs/metrics.md` states the protocol.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.images import composite

PSNR_LIMIT = 100.0  # dB; what two equal images score, so that a mean over cells stays finite
SSIM_WINDOW = 11  # pixels (Wang et al. 2004)
SSIM_SIGMA = 1.5  # pixels
MASK_DISTANCE = 0.05  # a pixel belongs to the object if one channel lies further than this from the background
MASK_ALPHA = 0.5
CROP_MARGIN = 2  # pixels around the truth's bounding box


def psnr(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB over the whole image, [V, F]; at most 100 dB."""
    pred, gt = _pair(pred, gt, background)
    return _decibel(((pred - gt) ** 2).mean(dim=(2, 3, 4)))


def object_crop_psnr(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """PSNR in dB inside the bounding box of the truth's object grown by 2 pixels, [V, F].

    A white background makes whole-image PSNR a measure of the object's size; the crop removes it. NaN where
    the truth shows no object (average with `torch.nanmean`).
    """
    boxes = object_boxes(object_mask(gt, background))
    first, second = _pair(pred, gt, background)
    squared = rearrange(((first - second) ** 2).mean(dim=2), "v f h w -> (v f) h w")
    values = torch.full((len(boxes),), torch.nan, dtype=torch.float64, device=squared.device)
    for cell, box in enumerate(boxes):
        if box is not None:
            top, bottom, left, right = box
            values[cell] = squared[cell, top:bottom, left:right].mean()
    return rearrange(_decibel(values), "(v f) -> v f", v=gt.shape[0])


def foreground_psnr(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """PSNR in dB over the pixels of the truth's object alone, [V, F]; NaN where it shows none.

    What the prediction draws beside the object does not count here; mask IoU sees it.
    """
    mask = object_mask(gt, background)
    first, second = _pair(pred, gt, background)
    pixels = mask.sum(dim=(2, 3)).double()
    squared = (((first - second) ** 2).mean(dim=2) * mask).sum(dim=(2, 3)) / pixels
    return _decibel(torch.where(pixels > 0, squared, torch.nan))


def ssim(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """Structural similarity, mean over RGB, [V, F].

    Gaussian window of sigma 1.5 (11 × 11), population covariance, data range 1; the mean leaves out the
    5-pixel border where the window sticks out, as scikit-image does. In float64: on a plain background the
    variances are differences of nearly equal numbers.

    Raises:
        UserError: an image side is under 11 pixels.
    """
    pred, gt = _pair(pred, gt, background)
    if min(pred.shape[3:]) < SSIM_WINDOW:
        raise UserError(f"SSIM needs images of at least {SSIM_WINDOW} pixels a side; got {tuple(pred.shape[3:])}")
    return torch.stack([_ssim_images(pred[view], gt[view]) for view in range(len(pred))])


def _ssim_images(first: Tensor, second: Tensor) -> Tensor:
    """Of float64 images [M, C, H, W], [M].

    Ours because the libraries' are either float32 or, in float64, forty times slower (a dense 11 × 11 window).
    """
    mean_1, mean_2 = _window(first), _window(second)
    variance_1 = _window(first * first) - mean_1**2
    variance_2 = _window(second * second) - mean_2**2
    covariance = _window(first * second) - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    structure = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _window(images: Tensor) -> Tensor:
    """Gaussian mean of [..., H, W] where the window fits, [..., H - 10, W - 10]."""
    steps = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(steps**2) / (2 * SSIM_SIGMA**2))
    for axis in (-1, -2):
        size = images.shape[axis] - SSIM_WINDOW + 1
        total = torch.zeros_like(images.narrow(axis, 0, size))
        for start, weight in enumerate((weights / weights.sum()).tolist()):
            total.add_(images.narrow(axis, start, size), alpha=weight)
        images = total
    return images


def object_mask(frames: Tensor, background: float = 1.0, use_alpha: bool = True) -> Tensor:
    """Where the object is, bool [V, F, H, W]: alpha above 0.5; without alpha, over 0.05 from the background.

    The second rule loses parts of the object that have the background's own colour.
    """
    if use_alpha and frames.shape[2] == 4:
        return frames[:, :, 3] > MASK_ALPHA
    return (composite(frames, background) - background).abs().amax(dim=2) > MASK_DISTANCE


def mask_iou(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """Intersection over union of the two object masks, [V, F]; 1 where both are empty.

    Alpha is used where both have it; otherwise both masks come from the distance to the background, so that
    the two sides are never measured by different rules.
    """
    _check(pred, gt)
    both_alpha = pred.shape[2] == 4 and gt.shape[2] == 4
    first = object_mask(pred, background, use_alpha=both_alpha)
    second = object_mask(gt, background, use_alpha=both_alpha)
    union = (first | second).sum(dim=(2, 3))
    return torch.where(union > 0, (first & second).sum(dim=(2, 3)) / union.clamp(min=1), 1.0)


def flicker(pred: Tensor, gt: Tensor, background: float = 1.0) -> Tensor:
    """Temporal flicker error between neighbouring frames of a view, [V, F - 1]; 0 for a constant error.

    Mean over pixels of |(pred[f+1] - pred[f]) - (gt[f+1] - gt[f])|: the true motion cancels, so does an error
    that stays the same over time, and what flickers remains.

    Raises:
        UserError: fewer than two frames.
    """
    pred, gt = _pair(pred, gt, background)
    if pred.shape[1] < 2:
        raise UserError(f"flicker needs at least 2 frames per view; got {pred.shape[1]}")
    return (pred - gt).diff(dim=1).abs().mean(dim=(2, 3, 4))


def object_boxes(mask: Tensor, margin: int = CROP_MARGIN) -> list[tuple[int, int, int, int] | None]:
    """(top, bottom, left, right), ends excluded, of each cell of [V, F, H, W], row-major; None if empty."""
    H, W = mask.shape[2:]
    boxes: list[tuple[int, int, int, int] | None] = []
    for cell in rearrange(mask, "v f h w -> (v f) h w"):
        rows, columns = cell.any(dim=1).nonzero(), cell.any(dim=0).nonzero()
        if not len(rows):
            boxes.append(None)
            continue
        top, bottom = int(rows[0]) - margin, int(rows[-1]) + 1 + margin
        left, right = int(columns[0]) - margin, int(columns[-1]) + 1 + margin
        boxes.append((max(top, 0), min(bottom, H), max(left, 0), min(right, W)))
    return boxes


def _check(pred: Tensor, gt: Tensor) -> None:
    for name, frames in (("prediction", pred), ("truth", gt)):
        if frames.ndim != 5 or frames.shape[2] not in (3, 4):
            raise UserError(f"the {name} must be [V, F, 3 or 4, H, W]; got {tuple(frames.shape)}")
    if pred.shape[:2] != gt.shape[:2] or pred.shape[3:] != gt.shape[3:]:
        shapes = f"prediction {tuple(pred.shape)}, truth {tuple(gt.shape)}"
        raise UserError(f"{shapes}: they differ in views, frames or size")


def _pair(pred: Tensor, gt: Tensor, background: float) -> tuple[Tensor, Tensor]:
    _check(pred, gt)
    return composite(pred.double(), background), composite(gt.double(), background)


def _decibel(mean_squared_error: Tensor) -> Tensor:
    return -10 * torch.log10(mean_squared_error.clamp(min=10 ** (-PSNR_LIMIT / 10)))
