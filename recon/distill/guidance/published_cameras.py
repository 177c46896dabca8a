"""Cameras as the published guidances want them: threestudio's matrices, MVDream's vectors, zero123's poses.

threestudio's world is ours turned by 90 degrees about z (its front is +x, ours -y), with the same elevations and
azimuths; its matrices have OpenGL axes (x right, y up, z backward).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from viewtime.cameras import Cameras

SMALLEST_DISTANCE = 1e-8


def angles(cameras: Sequence[Cameras]) -> tuple[Tensor, Tensor, Tensor]:
    """(elevation, azimuth, distance) of all scenes, degrees and world units, [B, V, F] each."""
    names = ("elevation", "azimuth", "distance")
    elevation, azimuth, distance = (torch.stack([getattr(one, name) for one in cameras]) for name in names)
    return elevation, azimuth, distance


def camera_matrix(elevation: Tensor, azimuth: Tensor, distance: Tensor) -> Tensor:
    """threestudio's camera-to-world [..., 4, 4]: columns right, up, backward, position; angles in degrees."""
    e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    zero, one = torch.zeros_like(e), torch.ones_like(e)
    backward = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin(), zero], dim=-1)
    right = torch.stack([-a.sin(), a.cos(), zero, zero], dim=-1)
    up = torch.stack([-e.sin() * a.cos(), -e.sin() * a.sin(), e.cos(), zero], dim=-1)
    position = distance[..., None] * backward
    position = torch.cat([position[..., :3], one[..., None]], dim=-1)
    return torch.stack([right, up, backward, position], dim=-1)


def extrinsics(camera_to_world: Tensor) -> Tensor:
    """VSD's camera condition: the matrix row by row, [..., 4, 4] -> [..., 16]."""
    return camera_to_world.flatten(-2)


def normalised_extrinsics(camera_to_world: Tensor) -> Tensor:
    """MVDream's camera condition: the matrix with its position on the unit sphere, row by row, [..., 16]."""
    position = camera_to_world[..., :3, 3:]
    length = position.norm(dim=-2, keepdim=True) + SMALLEST_DISTANCE
    top = torch.cat([camera_to_world[..., :3, :3], position / length], dim=-1)
    return torch.cat([top, camera_to_world[..., 3:, :]], dim=-2).flatten(-2)


def relative_pose(
    elevation: Tensor, azimuth: Tensor, distance: Tensor, reference: tuple[float, float, float], *, stable: bool = False
) -> Tensor:
    """zero123's pose [..., 4] of a camera relative to the reference picture's (elevation, azimuth, distance).

    (polar angle difference, sine and cosine of the azimuth difference, distance difference), radians and world units;
    the polar angle is counted from the pole, so a higher camera has a negative first number.

    Args:
        elevation, azimuth, distance: degrees and world units, [...].
        stable: Stable Zero123, whose last number is the reference camera's own polar angle.
    """
    up = torch.deg2rad(reference[0] - elevation)
    turn = torch.deg2rad(azimuth - reference[1])
    last = torch.deg2rad(torch.full_like(elevation, 90 - reference[0])) if stable else distance - reference[2]
    return torch.stack([up, turn.sin(), turn.cos(), last], dim=-1)
