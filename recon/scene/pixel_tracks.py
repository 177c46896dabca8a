"""Where points of a freeze-time video are in each of its pictures: dense optical flow, followed from view to view."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from scipy.ndimage import map_coordinates
from skimage.registration import optical_flow_tvl1
from torch import Tensor

from viewtime.log import progress_bar

from .seen_points import SeenPoints

MOST_DISAGREEMENT = 0.35  # pixels by which the way there and back may miss its start, before a point counts as hidden

MOST_CHANGE = 0.15  # of a colour channel from one view to the next, before something else must be in front


class PixelTracks(SeenPoints):
    """N points in V pictures.

    Attributes:
        places: [V, N, 2] pixels (x, y), centres at half-integers; where a point is hidden, where it would be.
        visible: [V, N] bool.
        colours: [N, 3] in [0, 1], of the picture in which each was found.
    """


class Flows:
    """Optical flow between neighbouring pictures [V, 3, H, W] in both directions (TV-L1)."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures
        grey = pictures.mean(dim=1).double().numpy()
        count = len(grey)
        self.forward: list[np.ndarray] = []
        self.back: list[np.ndarray] = []
        with progress_bar("track", 2 * (count - 1)) as bar:
            for one, other in pairwise(grey):
                self.forward.append(optical_flow_tvl1(one, other))
                bar.advance(1, "optical flow")
                self.back.append(optical_flow_tvl1(other, one))
                bar.advance(1, "optical flow")

    def step(self, places: np.ndarray, view: int, towards: int) -> tuple[np.ndarray, np.ndarray]:
        """Places [N, 2] of points of `view` in the next picture in direction ±1, and whether they are seen there."""
        ahead, back = (self.forward, self.back) if towards > 0 else (self.back, self.forward)
        pair = view if towards > 0 else view - 1
        moved = places + _sampled(ahead[pair], places)[:, ::-1]
        returned = moved + _sampled(back[pair], moved)[:, ::-1]
        H, W = self.pictures.shape[2:]
        inside = (moved >= 0).all(axis=1) & (moved[:, 0] <= W) & (moved[:, 1] <= H)
        back_again = np.linalg.norm(returned - places, axis=1) <= MOST_DISAGREEMENT
        one, other = self.pictures[view].double().numpy(), self.pictures[view + towards].double().numpy()
        alike = np.abs(_sampled(one, places) - _sampled(other, moved)).max(axis=1) <= MOST_CHANGE
        return moved, inside & back_again & alike


def _sampled(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A field [C, H, W] at places [N, 2] (x, y), bilinear: [N, C]. A flow's channels are (down, right)."""
    at = np.stack([places[:, 1] - 0.5, places[:, 0] - 0.5])
    return np.stack([map_coordinates(channel, at, order=1, mode="nearest") for channel in field], axis=1)


def follow(flows: Flows, start: int, wanted: Tensor) -> PixelTracks:
    """Follow pixels of one picture to all others; a point that was lost once counts as hidden from there on.

    Args:
        start: view in which the points lie. wanted: [H, W] bool.
    """
    rows, columns = wanted.nonzero(as_tuple=True)
    first = torch.stack([columns + 0.5, rows + 0.5], dim=1).double().numpy()
    count = len(flows.pictures)
    places = np.zeros((count, *first.shape))
    visible = np.zeros((count, len(first)), bool)
    places[start], visible[start] = first, True
    for towards in (1, -1):
        view = start
        while 0 <= view + towards < count:
            moved, seen = flows.step(places[view], view, towards)
            places[view + towards], visible[view + towards] = moved, seen & visible[view]
            view += towards
    colours = rearrange(flows.pictures[start], "c h w -> h w c")[rows, columns]
    return PixelTracks(torch.from_numpy(places).float(), torch.from_numpy(visible), colours)


def keyframe_tracks(flows: Flows, wanted: Tensor) -> PixelTracks:
    """Points of the middle view and, of the first and last one, those that none of the earlier ones reaches.

    Args:
        wanted: [V, H, W] bool, the pixels that may start a point.
    """
    V, _, H, W = flows.pictures.shape
    parts: list[PixelTracks] = []
    for view in dict.fromkeys([V // 2, 0, V - 1]):
        free = wanted[view].clone()
        for part in parts:
            places = part.places[view][part.visible[view]].long()
            places = torch.stack([places[:, 0].clamp(0, W - 1), places[:, 1].clamp(0, H - 1)], dim=1)
            free[places[:, 1], places[:, 0]] = False
        if parts:
            free = _thick(free)
        parts.append(follow(flows, view, free))
    return PixelTracks.joined(parts)


def _thick(mask: Tensor) -> Tensor:
    """Pixels of which most of the 3 × 3 neighbourhood is set: what tracks left free in an area, not between samples."""
    share = torch.nn.functional.avg_pool2d(mask[None].float(), 3, stride=1, padding=1)[0]
    return mask & (share > 0.5)
