"""The similarity between two sets of points or cameras (Umeyama 1991), and how far poses lie apart after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """x -> scale · rotation · x + translation; float64."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def points(self, points: Tensor) -> Tensor:
        """[..., 3] moved."""
        moved = einsum(self.rotation, points.double(), "i j, ... j -> ... i")
        return (self.scale * moved + self.translation).to(points.dtype)

    def cameras(self, camera_to_world: Tensor) -> Tensor:
        """Camera-to-world matrices [..., 4, 4] of the moved world, still rigid."""
        result = camera_to_world.clone()
        result[..., :3, :3] = (self.rotation @ camera_to_world[..., :3, :3].double()).to(result.dtype)
        result[..., :3, 3] = self.points(camera_to_world[..., :3, 3])
        return result


def umeyama(source: Tensor, target: Tensor, weights: Tensor | None = None, *, with_scale: bool = True) -> Similarity:
    """The similarity that carries source [N, 3] to target [N, 3] with the least weighted squared error.

    Args:
        weights: [N], not negative; 1 each by default. with_scale: False keeps the scale at 1 (Kabsch).
    """
    source, target = source.double(), target.double()
    weights = torch.ones(len(source), dtype=torch.float64) if weights is None else weights.double()
    weights = (weights / weights.sum())[:, None]
    middle, goal = (weights * source).sum(0), (weights * target).sum(0)
    u, strength, v = torch.linalg.svd((weights * (target - goal)).T @ (source - middle))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(v))
    rotation = u * sign @ v
    spread = (weights * (source - middle).square()).sum()
    scale = (strength * sign).sum() / spread if with_scale else torch.ones((), dtype=torch.float64)
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def align_cameras(found: Tensor, truth: Tensor) -> Similarity:
    """The similarity that carries camera-to-world matrices [V, 4, 4] to others.

    Cameras that stand in a row leave the turn about that row open, so the rotation is the one that agrees best with
    the cameras' own (their chordal mean), and scale and place follow from where they stand.
    """
    found, truth = found.double(), truth.double()
    u, _, v = torch.linalg.svd(einsum(truth[:, :3, :3], found[:, :3, :3], "n i k, n j k -> i j"))
    rotation = u * torch.tensor([1.0, 1.0, float(torch.sign(torch.linalg.det(u @ v)))], dtype=torch.float64) @ v
    source, target = found[:, :3, 3] @ rotation.T, truth[:, :3, 3]
    middle, goal = source.mean(0), target.mean(0)
    scale = ((source - middle) * (target - goal)).sum() / (source - middle).square().sum()
    return Similarity(scale, rotation, goal - scale * middle)


def pose_errors(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Errors of camera-to-world matrices [V, 4, 4] after `align_cameras`.

    Returns:
        Root mean square of the places' distances, as a share of the root mean square distance of the true places from
        their middle; largest angle between the rotations, degrees.
    """
    moved, truth = align_cameras(found, truth).cameras(found.double()), truth.double()
    places = truth[:, :3, 3]
    size = (places - places.mean(0)).square().sum(1).mean().sqrt()
    apart = (moved[:, :3, 3] - places).square().sum(1).mean().sqrt() / size
    chord = (moved[:, :3, :3] - truth[:, :3, :3]).flatten(1).norm(dim=1)  # 2 sqrt(2) sin(angle / 2)
    return float(apart), float(torch.rad2deg(2 * (chord / 8**0.5).clamp(max=1).asin()).max())
