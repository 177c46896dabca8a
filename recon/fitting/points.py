"""Points to start from: inside a hull, or far apart from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from .hull import Hull


def points_in_hull(hull: Hull, count: int, generator: torch.Generator, surface_share: float = 0.85) -> Tensor:
    """[<= count, 3] positions, most of them on the hull's surface, each moved at random within its voxel."""
    surface = hull.surface()
    chosen = []
    for voxels, share in ((surface, surface_share), (hull.inside & ~surface, 1 - surface_share)):
        points = hull.points(voxels)
        order = torch.randperm(len(points), generator=generator)[: round(count * share)]
        chosen.append(points[order])
    points = torch.cat(chosen)
    return points + hull.spacing * (torch.rand(points.shape, generator=generator) - 0.5)


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices [count] of points far apart from each other, starting with the one nearest the mean."""
    count = min(count, len(points))
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    for _ in range(count - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)
