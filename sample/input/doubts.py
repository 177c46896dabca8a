"""What speaks against a mask: its own shape, what moves in the film, and a network that contradicts itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .one_object import movers
from .traveller import RESTS, SEEN_IN, SMALLEST, widened

TOUCHING = 0.01  # share of a side of the picture that the object may lie on
COVERS_MOST, COVERS_LITTLE = 0.75, 0.002  # shares of the picture
FLICKERS = 0.5  # IoU of the masks of neighbouring frames
OFTEN = 0.25  # share of the frames from which it is said that something speaks against what was found
BESIDE = 0.5  # share of what moves that lies beside what was found
LITTLE = 0.3  # share of what was found that moves


def doubts(alpha: np.ndarray) -> tuple[str, ...]:
    """What its shape says against a mask, uint8 [F, H, W], each with the share of frames it is true of."""
    mask = alpha > 127
    found = mask.any(axis=(1, 2))
    if not found.any():
        return ()
    said = list(cut_off(alpha))
    share = mask.mean(axis=(1, 2))
    for wrong, words in ((share > COVERS_MOST, "almost all"), (share < COVERS_LITTLE, "almost nothing")):
        if wrong.any():
            said.append(f"the mask covers {words} of the picture in {wrong.mean():.0%} of the frames")
    jumps = np.array([_overlap(before, now) < FLICKERS for before, now in pairwise(mask)])
    if jumps.any():
        said.append(
            f"the mask flickers: it changes by more than half from frame to frame {jumps.mean():.0%} of the time"
        )
    return tuple(said)


def cut_off(alpha: np.ndarray) -> tuple[str, ...]:
    """Whether the object of a mask, uint8 [F, H, W], goes on beyond the picture, and in what share of the frames."""
    mask = alpha > 127
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    touching = np.any([edge.mean(axis=1) > TOUCHING for edge in edges], axis=0)
    if not touching.any():
        return ()
    return (f"the object touches the picture's border in {touching.mean():.0%} of the frames: it is cut off there",)


def doubts_of_motion(kept: np.ndarray, differing: np.ndarray, motion: np.ndarray) -> tuple[str, ...]:
    """What the film's motion says against what was found, with its shares.

    Args:
        kept: what was found, bool [F, h, w].
        differing: places before their background, bool [F, h, w]; few frames show none.
        motion: pixels that each place moves against the background, [F, h, w].
    """
    said = []
    outside = (differing & ~widened(kept)).sum(axis=(1, 2)) > BESIDE * differing.sum(axis=(1, 2))
    beside = float((outside & _enough(differing)).mean())
    if beside > OFTEN:
        said.append(f"what moves lies beside it in {beside:.0%} of the frames")
    mobile = differing if differing.any() else movers(motion)
    rest, mover = kept & ~widened(mobile), kept & mobile
    share = 1 - rest.sum() / max(1, kept.sum())
    part = _enough(mobile).mean() >= SEEN_IN and share < LITTLE and mover.any()
    if part and np.median(motion[rest]) < RESTS * np.median(motion[mover]):
        said.append(f"only {share:.0%} of it moves and the rest stays with the background")
    return tuple(said)


def _enough(masks: np.ndarray) -> np.ndarray:
    """Frames in which a mask is no speck, bool [F]."""
    return masks.mean(axis=(1, 2)) >= SMALLEST


def doubts_of_looks(kept: np.ndarray, again: np.ndarray) -> tuple[str, ...]:
    """Whether the network sees something else from near.

    Args:
        kept: what was found from afar, bool [F, h, w].
        again: frames in which the same was seen from near, bool [F].
    """
    seen = kept.any(axis=(1, 2))
    other = float((seen & ~again).sum() / max(1, seen.sum()))
    if other <= OFTEN:
        return ()
    return (f"the network sees something else from near in {other:.0%} of the frames",)


def _overlap(before: np.ndarray, now: np.ndarray) -> float:
    """IoU of two masks bool [H, W] laid over each other at their centres: an object that moves does not flicker."""
    if not before.any() or not now.any():
        return float(before.any() == now.any())
    shift = np.argwhere(now).mean(axis=0) - np.argwhere(before).mean(axis=0)
    there = np.roll(before, np.round(shift).astype(int), axis=(0, 1))
    return float((there & now).sum() / (there | now).sum())
