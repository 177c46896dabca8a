"""One object through a whole video, from what a matting network says of each frame.

The network judges single frames and marks whatever stands out. Here the object that moves against its background is
kept of several, looked at again from near, and what only one frame says is outvoted by its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.registration import optical_flow_ilk
from skimage.transform import warp

from viewtime.log import progress

from .doubts import doubts, doubts_of_looks, doubts_of_motion
from .one_object import SURE, one_object
from .plate import backgrounds, differs, filled, without_background
from .traveller import lies_before, traveller

TRACK_SIDE = 128  # longer side of the maps on which objects are told apart
ROOM = 0.4  # of the object's box, added at each side for the second look
SEEN_AGAIN = 0.4  # IoU of what the network sees from near with what was found, from which it is the same thing
REACH = 0.4  # how far limbs may reach beyond what was seen from afar, of the object's size
SAME_COLOUR = 0.12  # a neighbouring frame votes where its warped picture differs by less
Predict = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [S, S] in [0, 1]


def find_object(frames: np.ndarray, predict: Predict) -> tuple[np.ndarray, tuple[str, ...]]:
    """Alpha uint8 [F, H, W] of the one object of a video, uint8 [F, H, W, 3], and what speaks against it."""
    small = reduced(frames)
    size = (small.shape[2], small.shape[1])
    coarse = np.stack([resized(predict(frame), size) for frame in progress(frames, "finding the object")])
    flow = neighbour_flow(small)
    camera = camera_maps(flow, coarse)
    differing = np.stack([filled(frame > 1) for frame in differs(small, *backgrounds(small, camera))])
    motion, behind = own_motion(flow, coarse)
    kept = one_object(coarse, motion, behind)
    travelling = traveller(differing, camera, kept, motion)
    if travelling is not None:
        coarse = lies_before(coarse, travelling)
        kept = one_object(coarse, *own_motion(flow, coarse))
    looked = looked_at(frames, kept, predict)
    same, again = seen_again(looked, kept)
    looked = same if travelling is None else without_background(looked, kept, small, camera)
    alpha = (steady(looked, small, flow).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    said = (*doubts(alpha), *doubts_of_motion(kept, differing, motion), *doubts_of_looks(kept, again))
    return alpha, said


def reduced(frames: np.ndarray) -> np.ndarray:
    """The small pictures on which objects are told apart, uint8 [F, h, w, 3]."""
    height, width = frames.shape[1:3]
    scale = TRACK_SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return np.stack([resized(frame, size) for frame in frames])


def looked_at(frames: np.ndarray, kept: np.ndarray, predict: Predict) -> np.ndarray:
    """How much each pixel belongs to the object of each frame, seen from near, float32 [F, H, W].

    Args:
        kept: where the object is, bool [F, h, w]; a map is zero where it is empty.
    """
    height, width = frames.shape[1:3]
    looked = np.zeros(frames.shape[:3], np.float32)
    for index, box in enumerate(progress(windows(kept, (height, width)), "looking closer")):
        if box is None:
            continue
        left, top, right, bottom = box
        close = predict(np.ascontiguousarray(frames[index, top:bottom, left:right]))
        looked[index, top:bottom, left:right] = resized(close, (right - left, bottom - top))
        reach = int(np.clip(REACH * np.sqrt(kept[index].sum()), 3, 10))
        near = np.asarray(ndimage.binary_dilation(kept[index], iterations=reach), np.float32)
        looked[index] *= resized(near, (width, height)) > SURE
    return looked


def seen_again(looked: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The second look, [F, H, W], but what was found where that sees something else; and where it does not, bool [F].

    Args:
        looked: as `looked_at` gives it.
        kept: where the object was found, bool [F, h, w].
    """
    height, width = looked.shape[1:3]
    again = np.ones(len(kept), bool)
    result = looked.copy()
    for index, mask in enumerate(kept):
        again[index] = iou(resized(looked[index], mask.shape[::-1]) > SURE, mask) > SEEN_AGAIN
        if not again[index]:
            result[index] = resized(mask.astype(np.float32), (width, height))
    return result, again


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of bool masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (width, height)."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def neighbour_flow(small: np.ndarray) -> np.ndarray:
    """Where each pixel comes from in the frame before: (dy, dx) in pixels, float32 [F - 1, 2, h, w]."""
    grey = small.astype(np.float32).mean(axis=-1) / 255.0
    pairs = [optical_flow_ilk(now, before, radius=5, num_warp=4) for before, now in pairwise(grey)]
    return np.stack(pairs).astype(np.float32) if pairs else np.zeros((0, 2, *grey.shape[1:]), np.float32)


def own_motion(flow: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that each place moves otherwise than its background, float32 [F, h, w], and that the background moves [F].

    The background's motion is that of `camera_maps`.
    """
    motion, camera = np.zeros(coarse.shape, np.float32), np.zeros(len(coarse), np.float32)
    places = np.stack([*np.mgrid[: coarse.shape[1], : coarse.shape[2]], np.ones(coarse.shape[1:])]).astype(np.float32)
    for index, (pair, moves) in enumerate(zip(flow, camera_maps(flow, coarse))):
        behind = np.einsum("ij,jhw->ihw", moves, places) - places[:2]
        motion[index + 1] = np.linalg.norm(pair - behind, axis=0)
        camera[index + 1] = np.median(np.linalg.norm(behind, axis=0))
    if len(motion) > 1:
        motion[0], camera[0] = motion[1], camera[1]
    return motion, camera


def camera_maps(flow: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Where the background of each frame lies in the frame before, affine maps of (y, x, 1), [F - 1, 2, 3].

    Fitted to the flow where the network sees no object; misfits weigh less. Where it sees nothing else, nothing moves.
    """
    y, x = np.mgrid[: coarse.shape[1], : coarse.shape[2]].astype(np.float32)
    design = np.stack([y / TRACK_SIDE, x / TRACK_SIDE, np.ones_like(x)], axis=-1)
    maps = np.zeros((len(flow), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1.0
    for index, pair in enumerate(flow):
        outside = coarse[index + 1] < 0.2
        if outside.sum() < 50:
            continue
        rows, weight = design[outside], np.ones(int(outside.sum()), np.float32)
        target = pair[:, outside].T
        for _ in range(5):
            solution, *_ = np.linalg.lstsq(rows * weight[:, None], target * weight[:, None], rcond=None)
            weight = 1 / (1 + np.abs(target - rows @ solution).sum(axis=1))
        maps[index] += solution.T / np.array([TRACK_SIDE, TRACK_SIDE, 1.0])
    return maps


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

    A neighbour votes only where its picture, moved likewise, shows the same colours. The first and the last frame have
    their neighbours on one side.
    """
    result = alpha.copy()
    for index in range(len(alpha) if len(alpha) > 2 else 0):
        votes = [alpha[index]]
        agree = np.ones(small.shape[1:3], bool)
        first = min(max(index - 1, 0), len(alpha) - 3)
        for other in sorted({first, first + 1, first + 2} - {index}):
            seen = carried(small[other].astype(np.float32) / 255.0, other, index, flow)
            agree &= np.abs(seen - small[index] / 255.0).mean(axis=-1) < SAME_COLOUR
            votes.append(carried(alpha[other], other, index, flow))
        wide = resized(agree.astype(np.float32), (alpha.shape[2], alpha.shape[1])) > SURE
        result[index] = np.where(wide, np.median(np.stack(votes), axis=0), alpha[index])
    return result


def carried(picture: np.ndarray, start: int, end: int, flow: np.ndarray) -> np.ndarray:
    """A picture of frame `start`, [H, W] or [H, W, C], moved along the flow to frame `end`."""
    steps = range(start, end) if start < end else range(start - 1, end - 1, -1)
    for step in steps:
        picture = moved(picture, flow[step] if start < end else -flow[step])
    return picture


def moved(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] fetched along a field (dy, dx) of another scale."""
    height, width = picture.shape[:2]
    scale_y, scale_x = height / field.shape[1], width / field.shape[2]
    dy, dx = (resized(part, (width, height)) for part in field)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([y + dy * scale_y, x + dx * scale_x])
    if picture.ndim == 2:
        return warp(picture, places, order=1, mode="edge")
    return np.stack([warp(plane, places, order=1, mode="edge") for plane in picture.transpose(2, 0, 1)], axis=-1)
