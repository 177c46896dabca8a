"""Which cells of space an object fills, carved out of depth pictures from all around; and seen in a camera's frustum.

An animated asset is seldom closed, so what is inside cannot be asked of its triangles. But a place is empty where some
camera sees past it; what no camera sees past counts as full (Kutulakos and Seitz 2000, with depth for photographs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.model.mini.rays import camera_axes, slope_of

CELLS = 48  # along an edge of the cube
REACH = 0.52  # half the cube's edge; the object's longest extent is 1
SKIN = 0.02  # how far behind what a camera sees a place must lie to be full


@dataclass(frozen=True)
class Solid:
    """What an object fills at every frame.

    Attributes:
        cells: bool [F, CELLS, CELLS, CELLS] along the world's x, y, z, of a cube about the origin.
        azimuth: degrees in this world of the direction that the sample's cameras call azimuth 0.
    """

    cells: Tensor
    azimuth: float

    def at(self, frames: Tensor) -> Solid:
        """Of these frames, in their order."""
        return Solid(self.cells[frames], self.azimuth)

    def mirrored(self) -> Solid:
        """Of the mirror world, in which x is −x and azimuths are negated."""
        return Solid(self.cells.flip(1), -self.azimuth)


def carve(depth: np.ndarray, cameras_c2w: np.ndarray, fov_y: float) -> np.ndarray:
    """Full cells, bool [F, CELLS, CELLS, CELLS].

    Args:
        depth: planar, float32 [V, F, H, W] in world units, 0 where nothing is (`GLRenderer.draw_geometry`).
        cameras_c2w: [V, F, 4, 4]. fov_y: degrees.
    """
    line = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
    full = np.zeros((depth.shape[1], len(places)), bool)
    for frame in range(depth.shape[1]):
        left = np.arange(len(places))
        for seen, camera in zip(depth[:, frame], cameras_c2w[:, frame].astype(np.float32), strict=True):
            left = left[_behind(places[left], seen, camera, fov_y)]
        full[frame, left] = True
    return full.reshape(-1, CELLS, CELLS, CELLS)


def _behind(places: np.ndarray, seen: np.ndarray, camera: np.ndarray, fov_y: float) -> np.ndarray:
    """Bool [N]: places [N, 3] that lie behind what a camera sees, or outside of its picture."""
    height, width = seen.shape
    focal = height / 2 / np.tan(np.radians(fov_y) / 2)
    x, y, z = ((places - camera[:3, 3]) @ camera[:3, :3]).T
    column = np.floor(focal * x / z + width / 2).astype(np.int32)
    row = np.floor(focal * y / z + height / 2).astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    nearest = seen[row.clip(0, height - 1), column.clip(0, width - 1)]
    return ~inside | ((nearest > 0) & (z > nearest - SKIN))


def in_frustum(solid: Solid, cameras: Cameras, side: int) -> Tensor:
    """How full each cell of the first camera's frustum is: float32 [F, side (depth), side, side] in [0, 1].

    The frustum is that of `model.mini.solid`: lengths in half heights of the picture at the orbit's centre, its depth
    two of them. The camera does not move over the frames.
    """
    elevation, distance = cameras.elevation[0, :1], cameras.distance[0, 0]
    right, down, forward = camera_axes(elevation, cameras.azimuth[0, :1] + solid.azimuth)[0]
    slope = slope_of(torch.tensor(cameras.fov_y))
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    wider = 1 + slope * z
    places = (x * wider)[..., None] * right + (y * wider)[..., None] * down + z[..., None] * forward
    places = places * (distance * slope / REACH)
    cells = solid.cells[:, None].float()
    grid = places.flip(-1)[None].expand(len(cells), -1, -1, -1, -1)
    return F.grid_sample(cells, grid, align_corners=False)[:, 0]
