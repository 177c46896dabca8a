"""The published SV4D scripts' crop (simple_video_sample_4d.py, 4d2.py): centred on the picture, not on the object."""

from __future__ import annotations

import numpy as np
from PIL import Image

from viewtime.errors import UserError

BRIGHTEST = 250  # without alpha, a pixel whose mean over the channels is above this is white background


def object_mask(frames: np.ndarray) -> np.ndarray:
    """Visible pixels of uint8 frames [F, H, W, 3 | 4], bool [F, H, W]: any alpha at all, or not nearly white."""
    if frames.shape[-1] == 4:
        return frames[..., 3] > 0
    return frames.mean(axis=-1) <= BRIGHTEST


def published_crop(
    frames: np.ndarray, size: int, object_share: float | None
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Crop and scale all frames alike, as the published scripts do before they write their intermediate video.

    The half side is the largest distance of the object's bounding box, over all frames, from the picture's middle;
    the scripts compare x with half the height and y with half the width, which is what is done here. Frames without
    alpha stay opaque: their white background is kept and only the border that is added is transparent.

    Args:
        frames: uint8 [F, H, W, 3 | 4].
        size: side of a cell in pixels.
        object_share: side of the crop / side of the cell; None: the cell is as high as the picture.

    Returns:
        Cells, uint8 RGBA [F, size, size, 4], and the (left, top, side) of a cell in pixels of the picture.

    Raises:
        UserError: nothing is visible, or the object does not fit into a cell of the picture's height.
    """
    mask = object_mask(frames).any(axis=0)
    if not mask.any():
        raise UserError("no visible object: every frame is white or transparent; --preprocess.crop video keys others")
    height, width = mask.shape
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    middle_y, middle_x = height // 2, width // 2
    half = int(max(middle_y - columns[0], middle_x - rows[0], columns[-1] - middle_y, rows[-1] - middle_x))
    half = max(half, 1)
    top, left = max(0, middle_y - half), max(0, middle_x - half)
    cropped = to_opaque(frames)[:, top : top + min(height, 2 * half), left : left + min(width, 2 * half)]
    crop_height, crop_width = cropped.shape[1:3]
    side = height if object_share is None else int(2 * half / object_share)
    above, before = side // 2 - crop_height // 2, side // 2 - crop_width // 2
    if above < 0 or before < 0:
        raise UserError(f"a crop of {crop_width} × {crop_height} px does not fit into {side} px; name an object share")
    cells = []
    for frame in cropped:
        canvas = np.zeros((side, side, 4), np.uint8)
        canvas[above : above + crop_height, before : before + crop_width] = frame
        cells.append(np.asarray(Image.fromarray(canvas).resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(cells), (float(left - before), float(top - above), float(side))


def to_opaque(frames: np.ndarray) -> np.ndarray:
    """RGBA of frames [F, H, W, 3 | 4]; alpha 255 where there was none."""
    if frames.shape[-1] == 4:
        return frames
    return np.concatenate([frames, np.full((*frames.shape[:3], 1), 255, np.uint8)], axis=-1)


def on_white(cells: np.ndarray) -> np.ndarray:
    """RGB uint8 [F, H, W, 3] as the scripts composite it: in float64, truncated."""
    colour, alpha = cells[..., :3] / 255.0, cells[..., 3:] / 255.0
    return ((colour * alpha + (1 - alpha)) * 255).astype(np.uint8)
