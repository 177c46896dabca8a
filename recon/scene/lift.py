"""From places in pictures to points in the frame coordinates of each view, with cameras that are known."""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor

from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.recon.render.splats import Viewpoints

from .frame_points import FramePoints
from .pixel_tracks import PixelTracks

ROUNDS = 4  # of weighing views down that disagree
SCALE = 3.0  # pixels of disagreement at which a view counts half: above what generated views disagree by
RIDGE = 1e-9  # pull to the world's origin, where nothing else says how deep a point lies
PULL = 2e-3  # to the middle depth (in inverse depth), relative to a view from one depth to the side


def lift(tracks: PixelTracks, views: Viewpoints, options: SceneOptions) -> FramePoints:
    """Triangulate every point, then put it where each view that shows it sees it, at the depth that it has there.

    Args:
        views: one of each row of the tracks.
    """
    camera_to_world = torch.linalg.inv(views.world_to_camera)
    across = (tracks.places - views.centre[:, None]) / views.focal[:, None, None]
    rays = torch.cat([across, torch.ones_like(across[..., :1])], dim=-1)
    points = triangulate(tracks, rays, views, camera_to_world, options.far)
    camera = in_frames(points, views.world_to_camera)
    depth = camera[..., 2]
    seen = tracks.visible & (depth > 0)
    middle = depth[seen].median()
    depth = depth.clamp(options.near * middle, options.far * middle)
    return FramePoints(torch.where(seen[..., None], rays * depth[..., None], camera), seen, tracks.colours)


def in_frames(points: Tensor, world_to_camera: Tensor) -> Tensor:
    """World [N, 3] -> frame coordinates [V, N, 3]."""
    return einsum(world_to_camera[:, :3, :3], points, "v i j, n j -> v n i") + world_to_camera[:, None, :3, 3]


def triangulate(
    tracks: PixelTracks, rays: Tensor, views: Viewpoints, camera_to_world: Tensor, farthest: float
) -> Tensor:
    """World points [N, 3] nearest to the rays [V, N, 3] of the views that show them, in pixels.

    Each round solves the linear equations of the projections, divided by the depth that the round before found; views
    far from the agreement weigh less. What the views show from nearly one place gets the middle depth.

    Args:
        farthest: depth in middle ones, beyond which the pull to the middle stays as it is there.
    """
    rotation, origin = views.world_to_camera[:, :3, :3].double(), camera_to_world[:, :3, 3].double()
    rays = rays.double()
    focal = views.focal.double()
    across = torch.stack([_row(rotation, rays, 0), _row(rotation, rays, 1)], dim=2)  # [V, N, 2, 3], zero on the ray
    offset = einsum(across, origin, "v n k i, v i -> v n k")
    weight, depth = tracks.visible.double(), torch.ones(tracks.places.shape[:2], dtype=torch.float64)
    depth = depth * (origin - origin.mean(0)).norm(dim=1).max().clamp(min=1e-6)
    points = torch.zeros(tracks.places.shape[1], 3, dtype=torch.float64)
    axis, shown = rotation[:, 2].mean(0), tracks.visible.sum(0).double()
    for round_ in range(ROUNDS + 1):
        scaled = weight / depth.square()
        matrix = einsum(scaled, across, across, "v n, v n k i, v n k j -> n i j")
        ridge = RIDGE * matrix.diagonal(dim1=1, dim2=2).mean()  # cameras all around share no axis to pull along
        matrix = matrix + ridge * torch.eye(3, dtype=torch.float64)
        vector = einsum(scaled, across, offset, "v n, v n k i, v n k -> n i")
        if round_:
            middle = depth[tracks.visible].median()
            own = depth.mean(0).clamp(max=farthest * middle)
            pull = ((PULL * middle / own.square()).square() * shown)[:, None]
            matrix = matrix + pull[..., None] * axis[:, None] * axis
            vector = vector + pull * (origin.mean(0) @ axis + middle) * axis
        points = torch.linalg.solve(matrix, vector)
        camera = in_frames(points, views.world_to_camera.double())
        depth = camera[..., 2].clamp(min=1e-3 * float(camera[..., 2].abs().median()))
        miss = (einsum(across, points, "v n k i, n i -> v n k") - offset).norm(dim=2) / depth * focal[:, None]
        weight = tracks.visible / (1 + (miss / SCALE).square())
    return points.float()


def _row(rotation: Tensor, rays: Tensor, axis: int) -> Tensor:
    """[V, N, 3]: what is zero for world points (less the camera's place) on the ray, and its depth times the miss in
    the picture's axis elsewhere."""
    return rotation[:, None, axis] - rays[..., axis : axis + 1] * rotation[:, None, 2]
