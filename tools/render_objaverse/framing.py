"""Where the object stands, how far the camera, which moments: the three choices SV4D makes per object (3.1, A.1).

Numpy only and closed-form: the loop "grow the distance until the object fits every frame of every view" has the
same answer as one maximum over all vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from .gltf_file import AssetError
from .pose import Placement

FOV_Y = 33.8  # degrees, as SV3D and SV4D render
BASE_DISTANCE = 2.0
GROWTH = 1.05


def normalise(positions: np.ndarray) -> Placement:
    """Scale so that the longest extent of the bounding box over the whole clip is 1, centred at the origin.

    Args:
        positions: [F, N, 3] world vertices of the clip.

    Raises:
        AssetError: "no_geometry" where the box is empty or not finite.
    """
    flat = positions.reshape(-1, 3)
    low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    longest = float((high - low).max())
    if not np.isfinite(longest) or longest <= 1e-12:
        raise AssetError("no_geometry", f"the bounding box has the extent {longest:g}")
    centre = (low + high) / 2
    return Placement((float(centre[0]), float(centre[1]), float(centre[2])), 1.0 / longest)


def required_distance(
    points: np.ndarray, rotations: np.ndarray, fov_y: float = FOV_Y, margin: float = 0.04, aspect: float = 1.0
) -> float:
    """The smallest camera distance from the origin at which every point projects inside every image.

    A camera that looks at the origin from distance d sees a point at (x, y) and depth d + z in its own axes; it is
    inside while max(|x| / aspect, |y|) <= k (d + z), so d is the maximum of max(|x| / aspect, |y|) / k - z.

    Args:
        points: [F, N, 3] normalised vertices.
        rotations: [V, 3, 3] or [V, F, 3, 3] camera-to-world rotations, OpenCV axes (columns: right, down, forward).
        margin: share of the half image that stays empty at each side.
        aspect: width / height of the images.
    """
    slope = np.tan(np.radians(fov_y) / 2) * (1.0 - margin)
    if rotations.ndim == 3:
        rotations = np.broadcast_to(rotations[:, None], (len(rotations), len(points), 3, 3))
    best = 0.0
    for frame in range(len(points)):
        turn = rotations[:, frame].transpose(1, 0, 2).reshape(3, -1).astype(np.float32)
        seen = (points[frame] @ turn).reshape(len(points[frame]), -1, 3)
        needed = np.maximum(np.abs(seen[..., 0]) / aspect, np.abs(seen[..., 1])) / slope - seen[..., 2]
        best = max(best, float(needed.max()))
    return best


def camera_distance(
    points: np.ndarray,
    rotations: np.ndarray,
    *,
    fov_y: float = FOV_Y,
    fit: Literal["grow", "projected"] = "grow",
    base: float = BASE_DISTANCE,
    growth: float = GROWTH,
    margin: float = 0.04,
    aspect: float = 1.0,
) -> float:
    """One distance for the whole orbit.

    "grow" (SV4D 3.1) starts from `base` and multiplies by `growth` until the object fits; "projected" is the
    smallest distance that fits, which leaves no empty border and uses small images best.
    """
    needed = required_distance(points, rotations, fov_y, margin, aspect)
    if fit == "projected":
        return max(needed, 0.6)
    if needed <= base:
        return base
    return base * growth ** int(np.ceil(np.log(needed / base) / np.log(growth) - 1e-9))


def temporal_step(
    difference: Callable[[int], float], available: int, frames: int, *, base: int = 1, threshold: float
) -> tuple[int, float]:
    """Grow the sampling step until consecutive key frames differ by `threshold` (SV4D 3.1).

    Args:
        difference: step in fine frames -> mean difference of consecutive key frames at that step.
        available: number of fine frames in the clip; the `frames` key frames must fit.

    Returns:
        (step, difference at that step): the first step that passes, or the largest possible one.
    """
    largest = max(base, (available - 1) // max(frames - 1, 1))
    step = base
    while True:
        value = difference(step)
        if value >= threshold or step >= largest:
            return step, value
        # By one frame, by a tenth once that is more: a bounded number of trials on any clip.
        step = min(max(step + 1, step * 11 // 10), largest)
