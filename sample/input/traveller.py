"""What leaves its place before a background: the object of a film in which something travels, whatever stands out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .connected import labelled
from .plate import chained

SMALLEST, LARGEST = 0.004, 0.4  # shares of the picture that a traveller covers
MAIN_PART = 0.5  # of all that differs is the traveller
SEEN_IN = 0.7  # of the frames it is seen
LEAVES = 0.75  # of its own size, by which it leaves its place against the background
STANDS_OUT = 0.6  # how much it stands out, though the network may not see it
GAP = 6  # pixels of the maps: half the way between the parts of one traveller
SAME = 0.65  # share that two regions have in common, of both, from which they are one thing
BEYOND = 0.15  # of what was found, that may lie beyond the traveller if the two are one thing
RESTS = 0.3  # of the traveller's motion, below which the rest of what was found stays behind


def gathered(differing: np.ndarray) -> np.ndarray:
    """Differing places and what lies between near ones, bool [h, w].

    Of an object that does not wholly leave its place only the ends differ from what the other frames show there.
    """
    wide = ndimage.binary_closing(np.pad(differing, GAP), np.ones((3, 3), bool), iterations=GAP)
    return np.asarray(wide)[GAP:-GAP, GAP:-GAP]


def travels(masks: np.ndarray, affine: np.ndarray) -> bool:
    """Whether the largest region of each frame, bool [F, h, w], is one object that leaves its place.

    Args:
        affine: the camera's motion, [F - 1, 2, 3].
    """
    places, sizes = [], []
    for index, frame in enumerate(masks):
        labels, count = labelled(frame)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        if count and areas.max() >= SMALLEST * frame.size and areas.max() >= MAIN_PART * areas.sum():
            middle = np.argwhere(labels == 1 + int(areas.argmax())).mean(axis=0)
            first = chained(affine, index, 0)
            places.append(first[:, :2] @ middle + first[:, 2])
            sizes.append(float(areas.max()))
    if len(places) < SEEN_IN * len(masks):
        return False
    if np.median(sizes) > LARGEST * masks[0].size:
        return False
    way = np.linalg.norm(np.ptp(np.stack(places), axis=0))
    return bool(way > LEAVES * np.sqrt(np.median(sizes)))


def traveller(differing: np.ndarray, affine: np.ndarray, kept: np.ndarray, motion: np.ndarray) -> np.ndarray | None:
    """Where an object travels, bool [F, h, w]; None where none does, or where what was found already is that object.

    A body that rests while its arms move and a camera that goes around what rests are no travellers.

    Args:
        differing: places before their background, bool [F, h, w].
        affine: the camera's motion, [F - 1, 2, 3].
        kept: what was found without this, bool [F, h, w].
        motion: pixels that each place moves against the background, [F, h, w].
    """
    together = np.stack([gathered(frame) for frame in differing])
    beyond = kept & ~widened(together)
    if np.median(overlaps(together, kept)) > SAME and beyond.sum() < BEYOND * kept.sum():
        return None  # a network draws what it means better than a difference of colours does
    if travels(differing, affine):
        return differing
    if not travels(together, affine):
        return None
    # Only ends show: then it is another thing where the rest of what was found does not go with it.
    stays = beyond.any() and np.median(motion[beyond]) < RESTS * np.median(motion[together])
    return together if stays or not (kept & together).any() else None


def widened(masks: np.ndarray) -> np.ndarray:
    """Masks bool [F, h, w] and a few pixels around them."""
    return np.stack([ndimage.binary_dilation(frame, iterations=3) for frame in masks])


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU of the masks of each frame, bool [F, h, w] each."""
    either = (one | other).sum(axis=(1, 2))
    return (one & other).sum(axis=(1, 2)) / np.maximum(either, 1)


def lies_before(coarse: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """What stands out and travels, float32 [F, h, w]: the background's parts gone, the traveller's own come in.

    Args:
        coarse: how much each place stands out, [F, h, w] in [0, 1].
        masks: where the traveller is, bool [F, h, w].
    """
    near = np.stack([ndimage.binary_dilation(frame, iterations=2) for frame in masks])
    return np.maximum(np.where(near, coarse, 0), masks * STANDS_OUT).astype(np.float32)
