"""A strip of source pictures that shows what was taken for the object."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

HEIGHT = 160
OUTLINE = (255, 40, 160)
BACKGROUND_LIGHT = 0.35  # what is left of the background's brightness


def found_sheet(frames: np.ndarray, alpha: np.ndarray, columns: int = 8) -> np.ndarray | None:
    """uint8 [HEIGHT, N · w, 3]: evenly spaced pictures, the background dark, a line around the object.

    Args:
        frames: uint8 [F, H, W, 3 | 4].
        alpha: uint8 [F, H, W]; None is returned where it is opaque throughout.
    """
    if alpha.min() == 255:
        return None
    width = max(1, round(frames.shape[2] * HEIGHT / frames.shape[1]))
    parts = []
    for index in np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int):
        picture = Image.fromarray(frames[index, ..., :3]).resize((width, HEIGHT), Image.Resampling.BILINEAR)
        weight = Image.fromarray(alpha[index]).resize((width, HEIGHT), Image.Resampling.BILINEAR)
        share = np.asarray(weight, np.float32)[..., None] / 255.0
        shown = np.asarray(picture, np.float32) * (BACKGROUND_LIGHT + (1 - BACKGROUND_LIGHT) * share)
        inside = share[..., 0] > 0.5
        shown[np.logical_xor(ndimage.binary_dilation(inside), inside)] = OUTLINE
        parts.append(shown)
    return np.concatenate(parts, axis=1).astype(np.uint8)
