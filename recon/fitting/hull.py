"""Voting hull: which voxels do the masks of the views agree on? The start of a fit, and the carving baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.recon.render.splats import Viewpoints


@dataclass(frozen=True)
class Hull:
    """A voxel block.

    Attributes:
        inside: [X, Y, Z] bool.
        origin: centre of voxel (0, 0, 0) [3]; spacing: edge length, world units.
        tolerance: number of views that may disagree about a voxel.
        coverage: mean share of the mask pixels that the hull explains; low where views or cameras disagree.
    """

    inside: Tensor
    origin: Tensor
    spacing: float
    tolerance: int
    coverage: float

    def points(self, voxels: Tensor) -> Tensor:
        """World positions [N, 3] of a [X, Y, Z] selection."""
        return self.origin + self.spacing * voxels.nonzero().to(self.origin)

    def surface(self) -> Tensor:
        """[X, Y, Z] bool: inside voxels with a neighbour outside."""
        outside = F.pad((~self.inside).float()[None, None], (1,) * 6, value=1.0)
        return self.inside & (F.max_pool3d(outside, 3, stride=1)[0, 0] > 0)


def view_pixels(points: Tensor, views: Viewpoints) -> Tensor:
    """World points [N, 3] -> pixel coordinates [B, N, 2]."""
    rotation, translation = views.world_to_camera[:, :3, :3], views.world_to_camera[:, :3, 3]
    camera = points @ rotation.transpose(1, 2) + translation[:, None]
    return views.focal[:, None, None] * camera[..., :2] / camera[..., 2:].clamp(min=1e-3) + views.centre[:, None]


def sample_masks(masks: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values [B, N] of masks [B, H, W] at pixel coordinates [B, N, 2]; 0 outside the picture."""
    H, W = masks.shape[-2:]
    unit = pixels / pixels.new_tensor([W, H]) * 2 - 1
    return F.grid_sample(masks[:, None], unit[:, :, None], align_corners=False)[:, 0, :, 0]


def _votes(masks: Tensor, views: Viewpoints, low: Tensor, spacing: float, size: list[int]) -> Tensor:
    axes = [low[axis] + spacing * torch.arange(size[axis], dtype=torch.float32) for axis in range(3)]
    points = rearrange(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), "x y z c -> (x y z) c")
    votes = sum(
        (sample_masks(masks[b : b + 1], view_pixels(points, views[b : b + 1]))[0] > 0.5).int()
        for b in range(len(views))
    )
    return torch.as_tensor(votes).reshape(size)


def cube_votes(masks: Tensor, views: Viewpoints, reach: float, resolution: int) -> Tensor:
    """[R, R, R] number of masks [B, H, W] that show each voxel of the cube of half side `reach` as object."""
    spacing = 2 * reach / resolution
    return _votes(masks, views, torch.full((3,), spacing / 2 - reach), spacing, [resolution] * 3)


def _coverage(hull_points: Tensor, masks: Tensor, views: Viewpoints, spacing: float) -> float:
    """Share of mask pixels that some voxel of the hull projects near, averaged over the views."""
    H, W = masks.shape[-2:]
    radius = int(spacing * float(views.focal.max()) / 1.0) + 1
    shares = []
    for b in range(len(views)):
        pixels = view_pixels(hull_points, views[b : b + 1])[0].floor().long()
        kept = pixels[(pixels >= 0).all(1) & (pixels[:, 0] < W) & (pixels[:, 1] < H)]
        drawn = torch.zeros(H, W)
        drawn[kept[:, 1], kept[:, 0]] = 1
        drawn = F.max_pool2d(drawn[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
        mask = masks[b] > 0.5
        shares.append(float((drawn[mask] > 0).float().mean()) if mask.any() else 1.0)
    return sum(shares) / len(shares)


def voting_hull(
    masks: Tensor, views: Viewpoints, reach: float, resolution: int = 96, needed_coverage: float = 0.9
) -> Hull:
    """Voxels seen as object by all views, or by all but a few where that explains too little of the masks.

    Generated views disagree, and one wrong mask would carve away what all others see, so the number of views that may
    disagree rises until the hull covers the masks.

    Args:
        masks: [B, H, W] in [0, 1] of one instant. reach: half the side of the cube to search.

    Raises:
        UserError: no tolerance below half the views leaves a voxel.
    """
    B = len(views)
    coarse, step = 40, 2 * reach / 40
    low = torch.full((3,), -reach + step / 2)
    grown = F.max_pool2d(masks[:, None], 5, stride=1, padding=2)[:, 0]
    rough = cube_votes(grown, views, reach, coarse) >= max(2, B - max(1, B // 3))
    if not rough.any():
        raise UserError("the masks of the views have no volume in common: cameras and pictures do not belong together")
    occupied = rough.nonzero()
    first, last = occupied.amin(0), occupied.amax(0)
    low, high = low + step * (first - 1), low + step * (last + 1)
    spacing = float((high - low).max()) / resolution
    size = [max(2, int(length)) for length in ((high - low) / spacing).ceil()]
    votes = _votes(masks, views, low, spacing, size)
    best: Hull | None = None
    for tolerance in range(max(1, B // 2)):
        inside = votes >= B - tolerance
        if not inside.any():
            continue
        hull = Hull(inside, low, spacing, tolerance, 0.0)
        hull = Hull(inside, low, spacing, tolerance, _coverage(hull.points(hull.surface()), masks, views, spacing))
        if best is None or hull.coverage > best.coverage + 0.01:
            best = hull
        if hull.coverage >= needed_coverage:
            break
    if best is None:
        raise UserError(
            f"no voxel is object in more than half of the {B} views: the views do not agree; check the cameras"
        )
    return best
