"""The background behind a moving object, out of the frames in which the object is elsewhere, and what differs from it.

The camera's motion from frame to frame is an affine map of the picture; frames near in time are laid over each other
by it, and their median shows what does not move with the object.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

OFFSETS = (1, 2, 3, 4, 6, 8, 11, 15)  # frames before and after that make a frame's background
FEWEST = 4  # of them; with fewer nothing is said of the background
ITERATIONS = 6  # of the registration
ROBUST = 0.04  # brightness difference from which a pixel weighs less than half in the registration
LEAST, NOISE = 0.05, 5.0  # colour difference that counts: at least that, and that many times the film's own noise


def filled(differing: np.ndarray) -> np.ndarray:
    """Differing places without specks, gaps and holes, bool [h, w]."""
    opened = ndimage.binary_opening(differing, np.ones((2, 2), bool))
    closed = ndimage.binary_closing(np.pad(opened, 4), iterations=3)[4:-4, 4:-4]
    return np.asarray(ndimage.binary_fill_holes(closed))


def without_background(looked: np.ndarray, kept: np.ndarray, small: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The object seen from near, [F, H, W], without what is surely background and with what surely is none beside it.

    Args:
        looked: how much each pixel belongs to the object.
        kept: where it roughly is, bool [F, h, w].
        small: uint8 [F, h, w, 3]. affine: the camera's motion, [F - 1, 2, 3].
    """
    wide = np.stack([ndimage.binary_dilation(mask, iterations=3) for mask in kept])
    behind, count = backgrounds(small, affine, wide)
    size = (looked.shape[2], looked.shape[1])
    result = looked.copy()
    for index, frame in enumerate(differs(small, behind, count)):
        body = filled(frame > 1)
        away = ndimage.binary_opening((count[index] >= FEWEST // 2) & ~body, np.ones((3, 3), bool))
        there = ndimage.binary_opening(body & wide[index], np.ones((3, 3), bool))
        away, there = scaled(away, size), scaled(there, size)
        result[index] = np.maximum(looked[index] * (1 - away), np.where(there > 0.5, there, 0))
    return result


def scaled(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask as float32 in [0, 1] at another (width, height)."""
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def backgrounds(
    small: np.ndarray, affine: np.ndarray, covered: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The background of each frame, float32 [F, h, w, 3] in [0, 1], and from how many frames each pixel comes.

    Args:
        small: uint8 [F, h, w, 3].
        affine: the camera's motion, see `camera_maps`, [F - 1, 2, 3].
        covered: pixels that the object covers and that say nothing of the background, bool [F, h, w].
    """
    pictures = small.astype(np.float32) / 255
    grey = ndimage.gaussian_filter(pictures.mean(axis=-1), (0, 1, 1))
    free = np.ones(small.shape[:3], bool) if covered is None else ~covered
    result, count = pictures.copy(), np.zeros(small.shape[:3], int)
    for index in range(len(small)):
        layers = []
        for other in neighbours(index, len(small)):
            guess = chained(affine, index, other)
            fetched = registered(grey[index], grey[other], guess, free[index])
            layers.append(fetch(np.dstack([pictures[other], free[other]]), fetched))
        if len(layers) < FEWEST:
            continue
        stack = np.stack(layers)
        seen = stack[..., 3] > 0.99
        count[index] = seen.sum(axis=0)
        hidden = np.where(seen[..., None], stack[..., :3], np.nan)
        known = count[index] > 0
        result[index][known] = np.nanmedian(hidden[:, known], axis=0)
    return result, count


def neighbours(index: int, frames: int) -> list[int]:
    """Frames that show the background of another one."""
    near = [index + sign * offset for offset in OFFSETS for sign in (-1, 1)]
    return [other for other in near if 0 <= other < frames]


def differs(small: np.ndarray, behind: np.ndarray, count: np.ndarray) -> np.ndarray:
    """How surely a pixel is before its background, float32 [F, h, w]: 0 at no difference, 1 at the least that counts.

    A background that is laid a pixel beside itself differs nowhere; what lies beyond the other frames' pictures
    neither.
    """
    pictures = ndimage.gaussian_filter(small.astype(np.float32) / 255, (0, 0.7, 0.7, 0))
    smooth = ndimage.gaussian_filter(behind, (0, 0.7, 0.7, 0))
    # Distance to the range of colours about each pixel of the background.
    low = ndimage.minimum_filter(smooth, (1, 3, 3, 1))
    high = ndimage.maximum_filter(smooth, (1, 3, 3, 1))
    beyond = np.maximum(np.maximum(pictures - high, low - pictures), 0).max(axis=-1)
    beyond[count < FEWEST // 2] = 0
    limit = np.maximum(
        LEAST, NOISE * np.median(beyond[count >= FEWEST // 2]) if (count >= FEWEST // 2).any() else LEAST
    )
    return (beyond / limit).astype(np.float32)


def chained(affine: np.ndarray, index: int, other: int) -> np.ndarray:
    """Where frame `other` shows what each place of frame `index` shows, [2, 3]: (y, x) = A (y, x, 1)."""
    total = np.eye(3)
    steps = [np.vstack([pair, [0, 0, 1]]) for pair in affine[min(index, other) : max(index, other)]]
    for step in reversed(steps) if other < index else steps:
        total = (step if other < index else np.linalg.inv(step)) @ total
    return total[:2]


def registered(here: np.ndarray, there: np.ndarray, guess: np.ndarray, free: np.ndarray) -> np.ndarray:
    """A guess made exact by Gauss-Newton steps on the brightness, each pixel weighing less the more it differs."""
    y, x = np.mgrid[: here.shape[0], : here.shape[1]].astype(np.float32)
    scale = max(here.shape)
    basis = np.stack([np.ones_like(x), y / scale, x / scale])
    slope = np.stack(np.gradient(there))
    best = guess.astype(np.float64)
    for _ in range(ITERATIONS):
        moved = fetch(np.dstack([there, *slope, np.ones_like(there)]), best)
        inside = (moved[..., 3] > 0.99) & free
        if inside.sum() < 100:
            return best
        rows = np.concatenate([moved[..., 1] * basis, moved[..., 2] * basis])[:, inside].T
        error = (here - moved[..., 0])[inside]
        weight = 1 / (1 + (error / ROBUST) ** 2)
        normal = (rows * weight[:, None]).T @ rows
        step = np.linalg.solve(
            normal + 1e-3 * np.trace(normal) / 6 * np.eye(6) + 1e-9 * np.eye(6), rows.T @ (weight * error)
        )
        change = step.reshape(2, 3)
        best = best + np.stack([change[:, 1] / scale, change[:, 2] / scale, change[:, 0]], axis=1)
        if np.abs(change).max() < 0.01:
            break
    return best


def fetch(planes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Planes [h, w, C] at the places that an affine map gives for each pixel; zero beyond the picture."""
    return np.dstack(
        [ndimage.affine_transform(planes[..., c], affine, order=1, mode="constant") for c in range(planes.shape[-1])]
    )
