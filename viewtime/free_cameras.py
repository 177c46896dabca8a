"""Cameras that need not look at the origin: those of scenes, one matrix per view and frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from einops import einsum, repeat
from torch import Tensor

from viewtime.cameras import DEFAULT_FOV_Y, Cameras
from viewtime.errors import UserError
from viewtime.json_files import checked

LARGEST_SHEAR = 1e-3  # by which a rotation read from a file may miss being one


@dataclass(frozen=True)
class FreeRecord:
    """What `FreeCameras.to_json` writes."""

    fov_y: float
    camera_to_world: list[list[list[list[float]]]]


@dataclass(frozen=True)
class FreeCameras(Cameras):
    """Pin-holes anywhere, looking anywhere; `FreeCameras.of(matrices, fov_y)` makes them.

    `elevation`, `azimuth` and `distance` say where each stands as seen from the origin, and not where it looks.

    >>> cameras = FreeCameras.of(torch.eye(4).repeat(3, 5, 1, 1), fov_y=40.0)
    >>> cameras.shape, cameras[1:].shape
    ((3, 5), (2, 5))

    Attributes:
        matrices: camera-to-world, OpenCV axes, float32 [V, F, 4, 4].
    """

    matrices: Tensor = field(default_factory=lambda: torch.eye(4)[None, None])

    @staticmethod
    def of(matrices: Tensor, fov_y: float = DEFAULT_FOV_Y) -> FreeCameras:
        """Cameras of rigid camera-to-world matrices [V, F, 4, 4].

        Raises:
            UserError: they have another shape, are not finite, or are no rigid motions.
        """
        if matrices.ndim != 4 or matrices.shape[2:] != (4, 4):
            raise UserError(f"camera matrices of shape {list(matrices.shape)}; needed: [V, F, 4, 4]")
        matrices = matrices.float()
        if not torch.isfinite(matrices).all():
            raise UserError("a camera matrix has a value that is not finite")
        turn = matrices[..., :3, :3]
        shear = (einsum(turn, turn, "v f i j, v f i k -> v f j k") - torch.eye(3)).abs().max()
        if shear > LARGEST_SHEAR or (torch.linalg.det(turn) < 0).any():
            raise UserError(f"a camera matrix is no rotation with a place (off by {float(shear):.2g}, or mirrored)")
        position = matrices[..., :3, 3]
        distance = position.norm(dim=-1)
        height = position[..., 2] / distance.clamp(min=1e-9)
        return FreeCameras(
            torch.rad2deg(torch.asin(height.clamp(-1, 1))),
            torch.rad2deg(torch.atan2(position[..., 0], -position[..., 1])),
            distance,
            fov_y,
            matrices,
        )

    @staticmethod
    def of_views(matrices: Tensor, frames: int, fov_y: float = DEFAULT_FOV_Y) -> FreeCameras:
        """Cameras [V, 4, 4] that stand still over all frames."""
        return FreeCameras.of(repeat(matrices, "v i j -> v f i j", f=frames), fov_y)

    def __getitem__(self, index: Any) -> FreeCameras:
        views, frames = index if isinstance(index, tuple) else (index, slice(None))
        V, F = self.shape
        rows = torch.arange(V)[[views] if isinstance(views, int) else views]
        columns = torch.arange(F)[[frames] if isinstance(frames, int) else frames]
        return FreeCameras.of(self.matrices[rows][:, columns], self.fov_y)

    def position(self) -> Tensor:
        return self.matrices[..., :3, 3]

    def camera_to_world(self) -> Tensor:
        return self.matrices

    def rezero(self, view: int = 0) -> Cameras:
        """Free cameras have no azimuth that could be counted from a view's."""
        raise UserError("these cameras are no orbit: azimuths cannot be counted from one view")

    def with_middles(self) -> Cameras:
        """Free cameras have no neighbours in azimuth."""
        raise UserError("these cameras are no orbit: nothing lies half way between two azimuths")

    def to_json(self) -> dict[str, Any]:
        """Plain lists; `read_cameras` gives back equal cameras."""
        return {
            "convention": "camera to world, OpenCV axes (x right, y down, z forward)",
            "fov_y": self.fov_y,
            "camera_to_world": self.matrices.tolist(),
        }


def read_cameras(record: dict[str, Any]) -> Cameras:
    """The cameras of grid.json: of an orbit, or free ones.

    Raises:
        UserError: a key is missing or a value is of another type or shape.
    """
    if "camera_to_world" not in record:
        return Cameras.from_json(record)
    values = checked(record, FreeRecord, "the cameras' record")
    rows = values.camera_to_world
    shapes = {(len(row), *{(len(m), *{len(line) for line in m}) for m in row}) for row in rows}
    if len(shapes) != 1 or next(iter(shapes))[1:] != ((4, 4),):
        raise UserError("camera_to_world is no table of 4 × 4 matrices, one row per view")
    return FreeCameras.of(torch.tensor(rows, dtype=torch.float32), values.fov_y)
