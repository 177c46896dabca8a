"""How much of a method's error is where the object stands along the input camera's ray, which no picture of it tells.

The orbits of the truth turn about the middle of the whole clip's bounding box, out of which the input shows its width
and height. So a right shape at a wrong depth overlaps badly from the side. Here all of a clip's made pictures are moved
as one displacement along the input's ray would move them, and the best displacement counts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from viewtime.grid import FrameGrid
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.sample.metrics.measures.image import mask_iou

FARTHEST, STEPS = 0.375, 13  # displacements tried: half heights of the picture to each side, and how many


def displaced(alpha: Tensor, axes: Tensor, slope: Tensor, depth: float) -> Tensor:
    """Pictures of an object as if it stood elsewhere along the ray of the first camera, in which it looks the same.

    A point at the orbit's centre stands for the whole object (first order).

    Args:
        alpha: [V, F, H, W]. axes: of the cameras [V, 3, 3] (`rays.camera_axes`).
        slope: tan(fov / 2), []. depth: half heights, away from the first camera.
    """
    moved = depth * axes @ axes[0, 2]  # right, down, forward of each view
    nearer = 1 + slope * moved[:, 2]
    grown = (1 + slope * depth) / nearer
    # A place of the picture that is made shows this place of the one that is there.
    change = alpha.new_zeros(len(alpha), 2, 3)
    change[:, 0, 0] = change[:, 1, 1] = 1 / grown
    change[:, :, 2] = -moved[:, :2] / nearer[:, None] / grown[:, None]
    places = F.affine_grid(change, [len(alpha), 1, *alpha.shape[-2:]], align_corners=False)
    return F.grid_sample(alpha, places, align_corners=False)


def iou_at_best_depth(made: FrameGrid, truth: FrameGrid) -> tuple[float, float]:
    """(mask IoU of the novel views at the best displacement, that displacement in half heights)."""
    assert truth.cameras is not None
    azimuth = truth.cameras.azimuth[:, 0] - truth.cameras.azimuth[0, 0]
    axes = camera_axes(truth.cameras.elevation[:, 0], azimuth)
    slope = slope_of(torch.tensor(truth.cameras.fov_y))
    found = []
    for depth in torch.linspace(-FARTHEST, FARTHEST, STEPS).tolist():
        alpha = displaced(made.frames[:, :, 3], axes, slope, depth)
        moved = alpha[:, :, None].expand(-1, -1, 4, -1, -1)
        found.append((float(mask_iou(moved[1:], truth.frames[1:]).mean()), depth))
    return max(found, key=lambda pair: (pair[0], -abs(pair[1])))
