"""The one camera convention: orbits in degrees, OpenCV axes, Blender's world.

World: right-handed, +Z up, the object at the origin, its longest bounding-box extent 1. A camera at elevation e and
azimuth a (degrees) sits at distance · (cos e · sin a, −cos e · cos a, sin e) and looks at the origin: azimuth 0 is
Blender's front view, positive azimuth turns counter-clockwise seen from above. Matrices are camera-to-world with
OpenCV axes (x right, y down, z forward). Pixel centres lie at half-integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.json_files import checked

DEFAULT_FOV_Y = 33.8  # degrees, SV3D's field of view
DEFAULT_DISTANCE = 2.0


@dataclass(frozen=True)
class CameraRecord:
    """What `Cameras.to_json` writes."""

    fov_y: float
    elevation: list[list[float]]
    azimuth: list[list[float]]
    distance: list[list[float]]


@dataclass(frozen=True)
class Cameras:
    """One orbit camera per view and frame; `regular_orbit` makes the usual ones.

    >>> cameras = regular_orbit(views=4, frames=21, elevation=12.0)
    >>> cameras[1:, 0].azimuth.flatten().tolist()
    [90.0, 180.0, 270.0]

    Attributes:
        elevation, azimuth: degrees, float32 [V, F].
        distance: world units from the origin, float32 [V, F].
        fov_y: vertical field of view in degrees, shared by all.
    """

    elevation: Tensor
    azimuth: Tensor
    distance: Tensor
    fov_y: float = DEFAULT_FOV_Y

    def __post_init__(self) -> None:
        shape = torch.broadcast_shapes(self.elevation.shape, self.azimuth.shape, self.distance.shape)
        if len(shape) != 2:
            raise UserError(f"cameras need one value per view and frame, [V, F]; got shape {tuple(shape)}")
        if not 0 < self.fov_y < 180:
            raise UserError(f"field of view {self.fov_y} degrees; must lie between 0 and 180")
        for name in ("elevation", "azimuth", "distance"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float32).expand(shape)
            if not torch.isfinite(value).all():
                raise UserError(f"camera {name} has a value that is not finite")
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int]:
        """(V, F)."""
        V, F = self.elevation.shape
        return V, F

    def __getitem__(self, index: Any) -> Cameras:
        """Select views, or (views, frames); each a slice, list, tensor or int. Both axes stay."""
        views, frames = index if isinstance(index, tuple) else (index, slice(None))
        select = [_axis_indices(views, self.shape[0]), _axis_indices(frames, self.shape[1])]

        def pick(value: Tensor) -> Tensor:
            return value[select[0]][:, select[1]]

        return Cameras(pick(self.elevation), pick(self.azimuth), pick(self.distance), self.fov_y)

    def position(self) -> Tensor:
        """Camera centres in the world, [V, F, 3]."""
        elevation, azimuth = torch.deg2rad(self.elevation), torch.deg2rad(self.azimuth)
        direction = torch.stack(
            [elevation.cos() * azimuth.sin(), -elevation.cos() * azimuth.cos(), elevation.sin()], dim=-1
        )
        return self.distance[..., None] * direction

    def camera_to_world(self) -> Tensor:
        """[V, F, 4, 4], OpenCV axes. Straight above or below the object, image-up is the azimuth's direction."""
        elevation, azimuth = torch.deg2rad(self.elevation), torch.deg2rad(self.azimuth)
        zero = torch.zeros_like(azimuth)
        right = torch.stack([azimuth.cos(), azimuth.sin(), zero], dim=-1)
        forward = -torch.stack(
            [elevation.cos() * azimuth.sin(), -elevation.cos() * azimuth.cos(), elevation.sin()], dim=-1
        )
        down = torch.linalg.cross(forward, right)
        matrix = torch.eye(4).repeat(*self.shape, 1, 1)
        matrix[..., :3, :3] = torch.stack([right, down, forward], dim=-1)
        matrix[..., :3, 3] = self.position()
        return matrix

    def world_to_camera(self) -> Tensor:
        """[V, F, 4, 4], the rigid inverse of `camera_to_world`."""
        c2w = self.camera_to_world()
        rotation = rearrange(c2w[..., :3, :3], "v f i j -> v f j i")
        inverse = torch.eye(4).repeat(*self.shape, 1, 1)
        inverse[..., :3, :3] = rotation
        inverse[..., :3, 3] = -einsum(rotation, c2w[..., :3, 3], "v f i j, v f j -> v f i")
        return inverse

    def intrinsics(self, height: int, width: int) -> Tensor:
        """[V, F, 3, 3] in pixels; square pixels, principal point at the image centre."""
        focal = 0.5 * height / math.tan(math.radians(self.fov_y) / 2)
        matrix = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
        return matrix.repeat(*self.shape, 1, 1)

    def project(self, points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """World points [N, 3] -> pixel coordinates [V, F, N, 2] and depth along the view axis [V, F, N]."""
        w2c = self.world_to_camera().to(points)
        camera = einsum(w2c[..., :3, :3], points, "v f i j, n j -> v f n i") + w2c[..., None, :3, 3]
        image = einsum(self.intrinsics(height, width).to(points), camera, "v f i j, v f n j -> v f n i")
        return image[..., :2] / image[..., 2:], camera[..., 2]

    def rays(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Origins [V, F, 3] and unit directions [V, F, H, W, 3] through the pixel centres, in the world."""
        c2w = self.camera_to_world()
        return c2w[..., :3, 3], ray_directions(c2w, self.fov_y, height, width)

    def rezero(self, view: int = 0) -> Cameras:
        """Azimuths relative to the given view's azimuth at each frame, wrapped to [0, 360)."""
        azimuth = torch.remainder(self.azimuth - self.azimuth[view : view + 1], 360.0)
        return Cameras(self.elevation, azimuth, self.distance, self.fov_y)

    def with_middles(self) -> Cameras:
        """These views and, after them, one half way between each two neighbours in azimuth: V views become 2 V."""
        order = self.azimuth[:, 0].argsort()
        following = order.roll(-1)
        gap = torch.remainder(self.azimuth[following] - self.azimuth[order], 360.0)
        return Cameras(
            torch.cat([self.elevation, (self.elevation[order] + self.elevation[following]) / 2]),
            torch.cat([self.azimuth, torch.remainder(self.azimuth[order] + gap / 2, 360.0)]),
            torch.cat([self.distance, (self.distance[order] + self.distance[following]) / 2]),
            self.fov_y,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists, degrees and world units; `from_json` gives back equal cameras."""
        return {
            "convention": "orbit, degrees, Z up, azimuth 0 at -Y, counter-clockwise from above",
            "fov_y": self.fov_y,
            **{name: getattr(self, name).tolist() for name in ("elevation", "azimuth", "distance")},
        }

    @staticmethod
    def from_json(record: dict[str, Any]) -> Cameras:
        """Inverse of `to_json`.

        Raises:
            UserError: a key is missing or a value is of another type or shape.
        """
        values = checked(record, CameraRecord, "the cameras' record")
        tensors = {}
        for name in ("elevation", "azimuth", "distance"):
            rows = getattr(values, name)
            if len({len(row) for row in rows}) != 1 or not rows[0]:
                raise UserError(f"camera {name} is no table of equal rows, one per view")
            tensors[name] = torch.tensor(rows, dtype=torch.float32)
        if len({tensor.shape for tensor in tensors.values()}) != 1:
            raise UserError(f"cameras of {[list(tensor.shape) for tensor in tensors.values()]}; all must be [V, F]")
        return Cameras(**tensors, fov_y=values.fov_y)


def ray_directions(camera_to_world: Tensor, fov_y: float, height: int, width: int) -> Tensor:
    """Unit directions in the world through the pixel centres, in the matrices' dtype.

    Args:
        camera_to_world: [V, F, 4, 4], OpenCV axes.
        fov_y: degrees.

    Returns:
        [V, F, H, W, 3].
    """
    dtype = camera_to_world.dtype
    focal = 0.5 * height / math.tan(math.radians(fov_y) / 2)
    rows, columns = torch.arange(height, dtype=dtype) + 0.5, torch.arange(width, dtype=dtype) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    camera = torch.stack([(x - width / 2) / focal, (y - height / 2) / focal, torch.ones_like(x)], dim=-1)
    camera = (camera / camera.norm(dim=-1, keepdim=True)).to(camera_to_world.device)
    return einsum(camera_to_world[..., :3, :3], camera, "v f i j, h w j -> v f h w i")


def _axis_indices(index: Any, length: int) -> Tensor:
    if isinstance(index, int):
        index = [index]
    return torch.arange(length)[index]


def regular_orbit(
    views: int,
    frames: int,
    *,
    elevation: float = 12.0,
    distance: float = DEFAULT_DISTANCE,
    fov_y: float = DEFAULT_FOV_Y,
    azimuth_start: float = 0.0,
    azimuth_range: float = 360.0,
) -> Cameras:
    """Static orbit: view v at azimuth start + v · range / views (degrees), the same at every frame; [V, F]."""
    if views < 1 or frames < 1:
        raise UserError(f"an orbit needs at least one view and one frame; got {views} × {frames}")
    azimuth = azimuth_start + torch.arange(views, dtype=torch.float32) * (azimuth_range / views)
    shape = (views, frames)
    return Cameras(
        elevation=torch.full(shape, float(elevation)),
        azimuth=azimuth[:, None].expand(shape),
        distance=torch.full(shape, float(distance)),
        fov_y=fov_y,
    )


def opengl_from_opencv(camera_to_world: Tensor) -> Tensor:
    """Camera-to-world with OpenGL/Blender/nerfstudio axes (x right, y up, z backward), [..., 4, 4]."""
    return camera_to_world * torch.tensor([1.0, -1.0, -1.0, 1.0]).to(camera_to_world)


def opencv_from_opengl(camera_to_world: Tensor) -> Tensor:
    """Inverse of `opengl_from_opencv`; the same flip of the y and z axes."""
    return opengl_from_opencv(camera_to_world)


def orbit_from_camera_to_world(camera_to_world: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(elevation, azimuth, distance) of cameras that look at the origin with the horizon level.

    Args:
        camera_to_world: [..., 4, 4], OpenCV axes.

    Raises:
        UserError: a camera does not look at the origin (by more than 0.1 degrees) or is rolled.
    """
    position = camera_to_world[..., :3, 3]
    distance = position.norm(dim=-1)
    elevation = torch.rad2deg(torch.asin((position[..., 2] / distance).clamp(-1, 1)))
    azimuth = torch.rad2deg(torch.atan2(position[..., 0], -position[..., 1]))
    cosine = -(camera_to_world[..., :3, 2] * position).sum(-1) / distance
    level = camera_to_world[..., 2, 0].abs()
    if (cosine < math.cos(math.radians(0.1))).any() or (level > 2e-3).any():
        raise UserError("a camera does not look at the origin with a level horizon: it is no orbit camera")
    return elevation, azimuth, distance
