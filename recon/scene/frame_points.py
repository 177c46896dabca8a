"""Points of a frozen instant in the frame coordinates of each view, as a 3D tracker gives them; Δp_v of Eq. 11."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import einsum
from scipy.spatial import cKDTree
from torch import Tensor

from viewtime.arrays import read_arrays
from viewtime.errors import UserError

from .seen_points import SeenPoints
from .similarity import umeyama

NEIGHBOURS = 48
POSE_ROUNDS = 10
POINT_ROUNDS = 6
FAR_OFF = 4.0  # times the usual distance from the mean at which a view counts half


class FramePoints(SeenPoints):
    """N points as V views see them (4Real-Video, supplement 6).

    Attributes:
        places: [V, N, 3] in the frame coordinates of each view, OpenCV axes; views may disagree.
        visible: [V, N] bool.
        colours: [N, 3] in [0, 1].
    """

    def of_views(self, views: list[int]) -> FramePoints:
        """As some of the views see them; points that none of these shows are left out."""
        part = FramePoints(self.places[views], self.visible[views], self.colours)
        return part[part.visible.any(dim=0)]


def read_frame_points(path: Path, views: int) -> FramePoints:
    """An .npz of a 3D tracker: `points` [V, N, 3], `visible` [V, N], `colours` [N, 3] (whole numbers or fractions).

    Raises:
        UserError: missing, damaged, of other shapes, or of another number of views.
    """
    if not path.is_file():
        raise UserError(f"no such file of tracks: {path}")
    arrays = read_arrays(path)
    missing = sorted({"points", "visible", "colours"} - set(arrays))
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; needed: points [V, N, 3], visible [V, N], colours [N, 3]")
    points, visible, colours = (arrays[name] for name in ("points", "visible", "colours"))
    N = points.shape[1] if points.ndim == 3 else 0
    if points.shape != (views, N, 3) or visible.shape != (views, N) or colours.shape != (N, 3) or N < 4:
        raise UserError(
            f"{path}: points {list(points.shape)}, visible {list(visible.shape)}, colours {list(colours.shape)}; "
            f"needed: [{views}, N, 3], [{views}, N] and [N, 3] with at least 4 points, for this grid's {views} views"
        )
    numbers = points.dtype.kind in "iuf" and visible.dtype.kind in "biu" and colours.dtype.kind in "iuf"
    seen = visible.astype(bool) if numbers else visible
    if not numbers or not np.isfinite(points[seen]).all() or not np.isfinite(colours).all():
        raise UserError(f"{path} holds other things than finite numbers")
    white = 1.0 if colours.dtype.kind == "f" else 255.0
    if colours.min() < 0 or colours.max() > white:
        raise UserError(f"{path}: colours from {colours.min():g} to {colours.max():g}; needed: 0 to {white:g}")
    seen = seen & (points[..., 2] > 0)
    kept = seen.any(axis=0)
    places = torch.from_numpy(np.where(seen[..., None], points, 0).astype(np.float32))
    return FramePoints(
        places[:, kept], torch.from_numpy(seen)[:, kept], torch.from_numpy((colours / white).astype(np.float32))[kept]
    )


def poses_of(points: FramePoints) -> Tensor:
    """Camera-to-world [V, 4, 4] float64 in the middle view's frame: the rigid motion that explains the most of what
    the points do from view to view. Points that it does not explain weigh less (Cauchy).

    Raises:
        UserError: a view shares fewer than 4 points with its neighbour.
    """
    V = len(points.places)
    result = torch.eye(4, dtype=torch.float64).repeat(V, 1, 1)
    middle = V // 2
    for view in [*range(middle + 1, V), *range(middle - 1, -1, -1)]:
        known = view - 1 if view > middle else view + 1
        both = points.visible[view] & points.visible[known]
        if int(both.sum()) < 4:
            raise UserError(f"views {known} and {view} share {int(both.sum())} tracks; at least 4 are needed")
        own, other = points.places[view][both].double(), points.places[known][both].double()
        weights = torch.ones(len(own), dtype=torch.float64)
        motion = umeyama(own, other, weights, with_scale=False)
        for _ in range(POSE_ROUNDS):
            miss = (motion.points(own) - other).norm(dim=1)
            weights = 1 / (1 + (miss / miss.median().clamp(min=1e-9)).square())
            motion = umeyama(own, other, weights, with_scale=False)
        step = torch.eye(4, dtype=torch.float64)
        step[:3, :3], step[:3, 3] = motion.rotation, motion.translation
        result[view] = result[known] @ step
    return result


def canonical_points(points: FramePoints, camera_to_world: Tensor, canonical: str) -> tuple[Tensor, Tensor]:
    """Canonical points p [N, 3] and, of each view, Δp_v [V, N, 3] in the world: what its camera does not explain.

    With cameras at the identity this is the paper's own form, in which Δp_v holds the whole way from the central frame
    to a view's. Where a view does not show a point, it gets the mean of its neighbours' Δp_v.

    Args:
        canonical: agreed: p is the mean of what the views see, views far off the others weighing less; central: where
            the middle view sees it.
    """
    world = einsum(camera_to_world[:, :3, :3].float(), points.places, "v i j, v n j -> v n i")
    world = world + camera_to_world[:, None, :3, 3].float()
    position = _agreed(world, points.visible)
    if canonical == "central":
        middle = len(world) // 2
        position = torch.where(points.visible[middle][:, None], world[middle], position)
    offset = world - position
    return position, torch.stack([_filled(offset[v], points.visible[v], position) for v in range(len(offset))])


def _agreed(world: Tensor, visible: Tensor) -> Tensor:
    """[V, N, 3] -> [N, 3]: the mean over the views that show a point, then again with weights by distance (Cauchy)."""
    weight = visible.float()
    position = world[0]
    for _ in range(POINT_ROUNDS):
        position = (weight[..., None] * world).sum(0) / weight.sum(0).clamp(min=1e-9)[:, None]
        away = (world - position).norm(dim=-1)
        usual = FAR_OFF * away[visible].median().clamp(min=1e-9)
        weight = visible / (1 + (away / usual).square())
    return position


def _filled(offset: Tensor, visible: Tensor, position: Tensor) -> Tensor:
    """[N, 3]: each the median of itself and the nearest visible ones, which takes away single errors of tracking."""
    if not visible.any():
        return torch.zeros_like(offset)
    known = visible.nonzero().flatten()
    _, index = cKDTree(position[known].numpy()).query(position.numpy(), k=min(NEIGHBOURS, len(known)))
    index = torch.from_numpy(index).reshape(len(position), -1)
    return offset[known][index].median(dim=1).values
