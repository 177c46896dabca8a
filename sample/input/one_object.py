"""Which of the things that stand out or move in a video is its object: one chain of regions through the frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .connected import from_nearest, labelled

SURE = 0.5
MOVES = 0.8  # pixels of the maps from which a place moves by itself
OF_FASTEST = 0.4  # share of the fastest place's motion that still belongs to the mover
LARGEST_MOVER = 0.35  # share of the picture
OF_MOVER = 0.5  # share of a mover that lies on a thing that it is a part of
OF_THING = 0.5  # share of a thing that moves with its mover though the rest goes with the background
CAMERA_MOVES, AT_REST = 1.0, 0.3  # pixels that the background moves; share of them that a resting thing may differ
BLUR = 4  # pixels of the maps
REST = 0.15  # weight of what does not move, beside 1 of what does
LIKENESS = 0.5  # weight of one object's likeness to the next frame's, beside what each is worth
JOINED_SHARE = 0.25  # a part of at most this share of the object belongs to it if it touches it
JOINED_MOTION = 0.3  # so does a larger one that moves at least this much of what the object does


@dataclass(frozen=True)
class Region:
    """A connected region of one frame: bool [h, w], what it is worth, how it moves (0..1), mean place (y, x), area."""

    mask: np.ndarray
    worth: float
    moving: float
    place: np.ndarray
    area: int


def one_object(coarse: np.ndarray, motion: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """The pixels of one object, bool [F, h, w].

    Regions are what stands out, and apart from it what moves by itself. The chain of one region a frame is kept whose
    regions are large, move, and are alike from frame to frame (Viterbi); then each region's own parts come back.

    Args:
        coarse: how much each place stands out, [F, h, w] in [0, 1].
        motion: pixels that it moves against the background, [F, h, w].
        camera: pixels that the background moves, [F].
    """
    mobile = movers(motion)
    fastest = max(1.0, 0.5 * float(motion[mobile].max(initial=0.0)))
    frames = [regions(*parts, fastest) for parts in zip(coarse > SURE, mobile, motion, camera)]
    kept = np.zeros(coarse.shape, bool)
    for index, chosen in enumerate(best_chain(frames)):
        if chosen is not None:
            kept[index] = with_parts(frames[index][chosen], frames[index])
    return kept


def movers(motion: np.ndarray) -> np.ndarray:
    """What moves against the background, bool [F, h, w], though it may not stand out in a single picture.

    Regions at the border are left out: there the background comes into sight, and nearer parts of it pass by.
    """
    found = np.zeros(motion.shape, bool)
    for index, speed in enumerate(motion):
        labels, count = labelled(ndimage.binary_opening(speed > MOVES, np.ones((3, 3), bool)))
        at_border = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])))
        inner = [label for label in range(1, count + 1) if label not in at_border]
        inner = [label for label in inner if (labels == label).mean() <= LARGEST_MOVER]
        if inner:
            inside = np.isin(labels, inner)
            found[index] = inside & (speed > OF_FASTEST * speed[inside].max())
    return found


def regions(sure: np.ndarray, mobile: np.ndarray, motion: np.ndarray, camera: float, fastest: float) -> list[Region]:
    """Regions of one frame [h, w]: things that stand out, and movers that are no part of one.

    What moves inside a thing, an arm, is a part of it, unless the thing goes with a background that the camera moves.
    """
    things, moving = taken_apart(sure), taken_apart(mobile)
    alone = []
    for mover in moving:
        # Flow is blurred: a mover is found somewhat beside what moves.
        wide = [ndimage.binary_dilation(thing, iterations=BLUR) for thing in things]
        shared = [int((mover & thing).sum()) for thing in wide]
        whose = int(np.argmax(shared)) if shared else -1
        if whose >= 0 and shared[whose] > OF_MOVER * mover.sum():
            rest = things[whose] & ~mover
            behind = camera > CAMERA_MOVES and rest.any() and np.median(motion[rest]) < AT_REST * camera
            if not behind or shared[whose] > OF_THING * things[whose].sum():
                continue
        alone.append(mover)
        things = [thing & ~mover for thing in things]
    found = []
    for mask in [*things, *alone]:
        area = int(mask.sum())
        if not area:
            continue
        speed = min(1.0, float(motion[mask].mean()) / fastest)
        worth = np.sqrt(area / mask.size) * (REST + (1 - REST) * speed)
        found.append(Region(mask, float(worth), speed, np.argwhere(mask).mean(axis=0), area))
    return found


def taken_apart(layer: np.ndarray) -> list[np.ndarray]:
    """Connected parts of bool [h, w], where a thin bridge joins nothing; each pixel goes to the nearest core."""
    cores = ndimage.binary_erosion(layer, np.ones((5, 5), bool))
    labels, count = labelled(cores if cores.any() else layer)
    if not count:
        return []
    spread = from_nearest(labels, labels > 0) * layer
    return [spread == label for label in range(1, count + 1)]


def best_chain(frames: list[list[Region]]) -> list[int | None]:
    """For each frame the index of its region; None where it has none."""
    most = max((region.worth for regions in frames for region in regions), default=1.0)
    value: list[np.ndarray] = []
    came: list[np.ndarray] = []
    before: list[Region] = []
    for regions_here in frames:
        worth = np.array([region.worth / most for region in regions_here])
        last = value[-1] if value else np.zeros(0)
        if regions_here and len(last):
            steps = np.array([[likeness(a, b) for a in before] for b in regions_here]) * LIKENESS + last
            came.append(steps.argmax(axis=1))
            value.append(worth + steps.max(axis=1))
        else:
            came.append(np.zeros(len(regions_here), int))
            value.append(worth + (last.max() if len(last) else 0.0))
        before = regions_here
    chain: list[int | None] = [None] * len(frames)
    at: int | None = None
    for index in range(len(frames) - 1, -1, -1):
        if not frames[index]:
            at = None
            continue
        at = int(value[index].argmax()) if at is None else at
        chain[index] = at
        at = int(came[index][at]) if index and frames[index - 1] else None
    return chain


def likeness(a: Region, b: Region) -> float:
    """1 for regions of one area at one place, less the more their areas differ and the further they are apart."""
    apart = float(np.linalg.norm(a.place - b.place)) / np.sqrt(max(a.area, b.area))
    return min(a.area, b.area) / max(a.area, b.area) * float(np.exp(-apart))


def with_parts(region: Region, others: list[Region]) -> np.ndarray:
    """A region and what touches it and is small beside it or moves alike, bool [h, w]."""
    whole = region.mask.copy()
    edge = ndimage.binary_dilation(region.mask, np.ones((3, 3), bool))
    for other in others:
        if other is not region and (other.mask & edge).any():
            small = other.area < JOINED_SHARE * region.area
            if small or other.moving > JOINED_MOTION * region.moving:
                whole |= other.mask
    return whole
