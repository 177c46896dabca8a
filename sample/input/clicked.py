"""A mask corrected by a click in one frame: the thing there is found and followed through the whole video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import slic, watershed

from viewtime.errors import UserError

from .connected import labelled
from .object_track import Predict, iou, looked_at, moved, neighbour_flow, reduced, resized, seen_again
from .one_object import SURE, taken_apart

Kind = Literal["only", "add", "remove"]
LOOKS = (0.35, 0.6, 1.0)  # sides of the squares about a click that the network looks at, of the picture's shorter side
LARGEST = 0.9  # share of such a square; a thing that fills it is the background
PATCHES = 300  # superpixels of the small picture
ALIKE = 18.0  # CIE Lab distance up to which neighbouring patches belong to the click's
MOST_GROWN = 0.5  # of the picture, by patches of one colour
MOST_REMOVED = 0.6  # of a mask, as one of its separate parts
ELSEWHERE = 0.25  # of the mask's size: from there on lies what a click does not mean
CORE = 0.6  # of its greatest depth: what deep in the mask is surely meant to stay


@dataclass(frozen=True)
class Click:
    """Frame, place in the video's pixels, and what is meant: this alone is the object, this too, this is none of it."""

    frame: int
    x: int
    y: int
    kind: str


def with_click(frames: np.ndarray, alpha: np.ndarray, click: Click, predict: Predict) -> np.ndarray:
    """The mask after a click, alpha uint8 [F, H, W].

    Args:
        frames: uint8 [F, H, W, 3].
        alpha: the mask before, uint8 [F, H, W].

    Raises:
        UserError: a click beside the picture, of no known kind, or one that takes away what is not in the mask.
    """
    count, height, width = frames.shape[:3]
    if click.kind not in get_args(Kind):
        raise UserError(f"a click of kind {click.kind!r}; one of {', '.join(get_args(Kind))}")
    if not (0 <= click.frame < count and 0 <= click.x < width and 0 <= click.y < height):
        place = f"frame {click.frame}, ({click.x}, {click.y})"
        raise UserError(f"a click at {place}; the video has {count} frames of {width} × {height} px")
    small = reduced(frames)
    flow = neighbour_flow(small)
    place = (click.y * small.shape[1] // height, click.x * small.shape[2] // width)
    masks = np.stack([resized(frame, (small.shape[2], small.shape[1])) for frame in alpha]) > 127
    if click.kind == "remove":
        taken = part_of_mask(small[click.frame], masks[click.frame], place)
        lost = followed(taken, click.frame, flow)
        wide = np.stack([resized(frame.astype(np.float32), (width, height)) for frame in lost]) > SURE
        return np.where(wide, 0, alpha).astype(np.uint8)
    part = separate_part(masks[click.frame], place)
    if click.kind == "only" and part is not None:
        kept = np.stack([ndimage.binary_dilation(mask, iterations=3) for mask in followed(part, click.frame, flow)])
        wide = np.stack([resized(frame.astype(np.float32), (width, height)) for frame in kept]) > SURE
        return np.where(wide, alpha, 0).astype(np.uint8)
    seed = thing_at(frames[click.frame], small[click.frame], click, place, predict)
    regions = followed(seed, click.frame, flow)
    looked, _ = seen_again(looked_at(frames, regions, predict), regions)
    thing = (looked.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return thing if click.kind == "only" else np.maximum(thing, alpha)


def thing_at(
    frame: np.ndarray, small: np.ndarray, click: Click, place: tuple[int, int], predict: Predict
) -> np.ndarray:
    """What lies at a click, bool [h, w]: what the network sees there from near, else the patches of its colour.

    Of several looks the one counts whose thing stays the same from the next look.
    """
    height, width = frame.shape[:2]
    found: list[np.ndarray] = []
    for share in LOOKS:
        side = round(share * min(height, width))
        left, top = (int(np.clip(at - side // 2, 0, most - side)) for at, most in ((click.x, width), (click.y, height)))
        close = predict(np.ascontiguousarray(frame[top : top + side, left : left + side]))
        whole = np.zeros((height, width), np.float32)
        whole[top : top + side, left : left + side] = resized(close, (side, side))
        labels, _ = labelled(resized(whole, (small.shape[1], small.shape[0])) > SURE)
        mask = (labels == labels[place]) & (labels > 0)
        if mask.any() and whole[top : top + side, left : left + side].mean() < LARGEST:
            found.append(mask)
    if not found:
        return alike(small, place)
    agreement = [max((iou(mask, other) for other in found if other is not mask), default=0.0) for mask in found]
    return found[int(np.argmax(agreement))]


def part_of_mask(small: np.ndarray, mask: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """What a click takes away from a mask, bool [h, w]: its separate part there, else the side of the click.

    The mask falls into two by a watershed of the colours' edges, from the click and from the middle of the mask.

    Raises:
        UserError: the click is not on the mask.
    """
    near = ndimage.binary_dilation(mask, iterations=2)
    if not near[place]:
        raise UserError("there is nothing of the mask where you clicked; click on a part that is not the object")
    part = separate_part(mask, place)
    if part is not None and part.sum() <= MOST_REMOVED * mask.sum():
        return ndimage.binary_dilation(part, iterations=2)
    markers = np.zeros(mask.shape, np.int32)
    away = np.hypot(*(np.indices(mask.shape) - np.reshape(place, (2, 1, 1))))
    depth = np.asarray(ndimage.distance_transform_edt(mask)) * (away > ELSEWHERE * np.sqrt(mask.sum()))
    if not depth.any():
        return near
    markers[depth > CORE * depth.max()] = 1
    markers[(away < 2) & near] = 2
    smooth = ndimage.gaussian_filter(rgb2lab(small), (1.5, 1.5, 0))
    edges = np.linalg.norm(np.stack(np.gradient(smooth, axis=(0, 1))), axis=(0, 3))
    return watershed(edges, markers, mask=near) == 2


def separate_part(mask: np.ndarray, place: tuple[int, int]) -> np.ndarray | None:
    """The part of a mask of several at a place, bool [h, w]; None where the mask is one or lies elsewhere."""
    parts = taken_apart(mask)
    here = [part for part in parts if ndimage.binary_dilation(part, iterations=2)[place]]
    return max(here, key=lambda part: int(part[place])) if here and len(parts) > 1 else None


def alike(small: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The superpixel at a place and those around whose colours lead there in small steps, bool [h, w]."""
    patches = slic(small, n_segments=PATCHES, compactness=8, start_label=0)
    lab = rgb2lab(small)
    count = int(patches.max()) + 1
    colour = np.stack([ndimage.mean(lab[..., c], patches, range(count)) for c in range(3)], axis=-1)
    pairs = np.concatenate(
        [
            np.stack([patches[:, 1:], patches[:, :-1]], -1).reshape(-1, 2),
            np.stack([patches[1:], patches[:-1]], -1).reshape(-1, 2),
        ]
    )
    neighbours = [set() for _ in range(count)]
    for a, b in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0):
        neighbours[a].add(int(b))
        neighbours[b].add(int(a))
    area = np.bincount(patches.ravel(), minlength=count)
    first = int(patches[place])
    taken, edge = {first}, [first]
    while edge and area[list(taken)].sum() < MOST_GROWN * patches.size:
        here = edge.pop(0)
        for other in sorted(neighbours[here] - taken, key=lambda patch: np.linalg.norm(colour[patch] - colour[first])):
            step = np.linalg.norm(colour[other] - colour[here])
            if step < ALIKE and np.linalg.norm(colour[other] - colour[first]) < 2 * ALIKE:
                taken.add(other)
                edge.append(other)
    return np.isin(patches, list(taken))


def followed(seed: np.ndarray, first: int, flow: np.ndarray) -> np.ndarray:
    """A region of frame `first` carried along the flow to all frames, bool [F, h, w]."""
    result = np.zeros((len(flow) + 1, *seed.shape), bool)
    result[first] = seed
    for index in range(first + 1, len(result)):
        result[index] = moved(result[index - 1].astype(np.float32), flow[index - 1]) > SURE
    for index in range(first - 1, -1, -1):
        result[index] = moved(result[index + 1].astype(np.float32), -flow[index]) > SURE
    return result
