"""Connected regions of a mask."""

from __future__ import annotations

from typing import cast

import numpy as np
from scipy import ndimage


def labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number of the region of each pixel of bool [h, w], 0 outside, and how many regions there are."""
    labels, count = cast(tuple[np.ndarray, int], ndimage.label(mask))
    return labels, int(count)


def from_nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each pixel's value at the nearest known pixel: values [H, W, ...], known bool [H, W] with one true at least."""
    places = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[tuple(cast(np.ndarray, places))]
