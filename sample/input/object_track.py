"""One object through a whole video, from what a matting network says of each frame.

The network judges single frames and marks whatever stands out. Here the object that moves against its background is
kept of several, looked at again from near, and what only one frame says is outvoted by its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.registration import optical_flow_ilk
from skimage.transform import warp

from viewtime.log import progress

TRACK_SIDE = 128  # longer side of the maps on which objects are told apart
SURE = 0.5
JOINED_SHARE = 0.25  # a part of at most this share of the object belongs to it if it touches it
JOINED_MOTION = 0.5  # so does a larger one that moves at least this much of what the object does
MOVES = 0.8  # pixels of the maps from which a place moves by itself
LARGEST_MOVER = 0.3  # share of the picture
ROOM = 0.25  # of the object's box, added at each side for the second look
SAME_COLOUR = 0.12  # a neighbouring frame votes where its warped picture differs by less
Predict = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [S, S] in [0, 1]


def find_object(frames: np.ndarray, predict: Predict) -> np.ndarray:
    """Alpha uint8 [F, H, W] of the one object of a video, uint8 [F, H, W, 3]."""
    height, width = frames.shape[1:3]
    scale = TRACK_SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.stack([_resized(frame, size) for frame in frames])
    coarse = np.stack([_resized(predict(frame), size) for frame in progress(frames, "finding the object")])
    flow = neighbour_flow(small)
    motion = own_motion(flow, coarse)
    kept = one_object(np.maximum(coarse, movers(motion)), motion)
    looked = np.zeros(frames.shape[:3], np.float32)
    for index, box in enumerate(progress(windows(kept, (height, width)), "looking closer")):
        if box is None:
            continue
        left, top, right, bottom = box
        close = predict(np.ascontiguousarray(frames[index, top:bottom, left:right]))
        looked[index, top:bottom, left:right] = _resized(close, (right - left, bottom - top))
    near = ndimage.binary_dilation(kept, np.ones((1, 7, 7), bool))
    for index in range(len(frames)):
        looked[index] *= _resized(near[index].astype(np.float32), (width, height)) > SURE
    return (steady(looked, small, flow).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (width, height)."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def neighbour_flow(small: np.ndarray) -> np.ndarray:
    """Where each pixel comes from in the frame before: (dy, dx) in pixels, float32 [F - 1, 2, h, w]."""
    grey = small.astype(np.float32).mean(axis=-1) / 255.0
    pairs = [optical_flow_ilk(now, before, radius=5, num_warp=4) for before, now in zip(grey, grey[1:])]
    return np.stack(pairs).astype(np.float32) if pairs else np.zeros((0, 2, *grey.shape[1:]), np.float32)


def own_motion(flow: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Pixels that each place moves otherwise than its background, float32 [F, h, w].

    The background's motion is an affine map fitted to the flow where the network sees no object; misfits weigh less.
    """
    motion = np.zeros(coarse.shape, np.float32)
    y, x = np.mgrid[: coarse.shape[1], : coarse.shape[2]].astype(np.float32)
    design = np.stack([np.ones_like(x), x / TRACK_SIDE, y / TRACK_SIDE], axis=-1)
    for index, pair in enumerate(flow):
        outside = coarse[index + 1] < 0.2
        if outside.sum() < 50:
            continue
        rows, weight = design[outside], np.ones(int(outside.sum()), np.float32)
        target = pair[:, outside].T
        for _ in range(5):
            solution, *_ = np.linalg.lstsq(rows * weight[:, None], target * weight[:, None], rcond=None)
            weight = 1 / (1 + np.abs(target - rows @ solution).sum(axis=1))
        motion[index + 1] = np.linalg.norm(pair - (design @ solution).transpose(2, 0, 1), axis=0)
    if len(motion) > 1:
        motion[0] = motion[1]
    return motion


def movers(motion: np.ndarray) -> np.ndarray:
    """What moves against the background though it may not stand out in a single picture: 0.6 there, else 0, [F, h, w].

    Regions at the border are left out: there the background comes into sight, and nearer parts of it pass by.
    """
    found = motion > max(MOVES, 0.5 * float(np.quantile(motion, 0.99)))
    found = ndimage.binary_opening(found, np.ones((1, 3, 3), bool))
    for mask in found:
        labels, count = ndimage.label(mask)
        at_border = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])))
        for label in range(1, count + 1):
            if label in at_border or (labels == label).mean() > LARGEST_MOVER:
                mask[labels == label] = False
    return found.astype(np.float32) * 0.6


def one_object(coarse: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The pixels of one object, bool [F, h, w], of all that the maps [F, h, w] show.

    What touches by a thin bridge is taken apart. The largest wins, where mass counts more the more it moves against
    the background; then its own parts come back.
    """
    mask = coarse > SURE
    cores = ndimage.binary_erosion(mask, np.ones((1, 5, 5), bool))
    labels, count = ndimage.label(cores)
    if count == 0:
        return mask
    spread = np.zeros_like(labels)
    for index in range(len(mask)):
        if cores[index].any():
            nearest = ndimage.distance_transform_edt(labels[index] == 0, return_distances=False, return_indices=True)
            spread[index] = labels[index][tuple(nearest)] * mask[index]
    parts = np.arange(1, count + 1)
    mass = ndimage.sum_labels(coarse, spread, parts)
    moving = ndimage.mean(motion, spread, parts)
    moving = np.nan_to_num(moving) / max(0.3, float(np.nanmax(moving)))
    main = int(np.argmax(mass * (0.1 + moving)))
    own = spread == parts[main]
    touched = np.unique(spread[ndimage.binary_dilation(own, np.ones((1, 3, 3), bool))])
    for label in touched[(touched > 0) & (touched != parts[main])]:
        small = mass[label - 1] < JOINED_SHARE * mass[main]
        alike = moving[label - 1] > JOINED_MOTION * moving[main]
        if small or alike:
            own |= spread == label
    return own


def windows(kept: np.ndarray, picture: tuple[int, int]) -> list[tuple[int, int, int, int] | None]:
    """(left, top, right, bottom) in the picture around the object of each frame, with room; None where it is not."""
    scale_y, scale_x = picture[0] / kept.shape[1], picture[1] / kept.shape[2]
    boxes: list[tuple[int, int, int, int] | None] = []
    for mask in kept:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            boxes.append(None)
            continue
        room = ROOM * max((rows[-1] - rows[0]) * scale_y, (columns[-1] - columns[0]) * scale_x) + 8
        boxes.append(
            (
                max(0, int(columns[0] * scale_x - room)),
                max(0, int(rows[0] * scale_y - room)),
                min(picture[1], int((columns[-1] + 1) * scale_x + room)),
                min(picture[0], int((rows[-1] + 1) * scale_y + room)),
            )
        )
    return boxes


def steady(alpha: np.ndarray, small: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The median of each frame's map and its neighbours', moved here along the flow; float32 [F, H, W].

    A neighbour votes only where its picture, moved likewise, shows the same colours.
    """
    result = alpha.copy()
    for index in range(1, len(alpha) - 1):
        votes = [alpha[index]]
        agree = np.ones(small.shape[1:3], bool)
        for other, field in ((index - 1, flow[index - 1]), (index + 1, -flow[index])):
            seen = _moved(small[other].astype(np.float32) / 255.0, field)
            agree &= np.abs(seen - small[index] / 255.0).mean(axis=-1) < SAME_COLOUR
            votes.append(_moved(alpha[other], field))
        wide = _resized(agree.astype(np.float32), alpha.shape[:0:-1]) > SURE
        result[index] = np.where(wide, np.median(np.stack(votes), axis=0), alpha[index])
    return result


def _moved(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] fetched along a field (dy, dx) of another scale."""
    height, width = picture.shape[:2]
    scale_y, scale_x = height / field.shape[1], width / field.shape[2]
    dy, dx = (_resized(part, (width, height)) for part in field)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([y + dy * scale_y, x + dx * scale_x])
    if picture.ndim == 2:
        return warp(picture, places, order=1, mode="edge")
    return np.stack([warp(plane, places, order=1, mode="edge") for plane in picture.transpose(2, 0, 1)], axis=-1)
