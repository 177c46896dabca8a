"""What needs no 4D at all: a carved hull per frame, and an independent static fit per frame."""

from __future__ import annotations

import dataclasses

import torch

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.grid import FrameGrid
from viewtime.recon.fitting.hull import view_pixels, voting_hull
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.render.splats import Viewpoints

VOXELS = 128
MASK_LEVEL = 0.6  # alpha at which a pixel is object; chosen on the horse's held-out views, to the baseline's favour


def carving(train: FrameGrid, unseen: FrameGrid) -> FrameGrid:
    """A voting hull per frame; each surface voxel has the mean colour of the training views, drawn as a small splat."""
    targets = make_targets(train)
    V, F, H, W = targets.shape
    assert unseen.cameras is not None
    columns = []
    for frame in range(F):
        cells = targets.cell(torch.arange(V), torch.tensor(frame))
        views = targets.views[cells]
        masks = (targets.images[:, frame, 3] + 0.5 - MASK_LEVEL).clamp(0, 1)
        hull = voting_hull(masks, views, targets.reach, VOXELS)
        points = hull.points(hull.surface())
        colour = front_colours(points, targets.images[:, frame, :3], views, hull.spacing)
        count = len(points)
        asset = GaussianAsset(
            points[None], torch.full((count, 1), (0.45 * hull.spacing) ** 2), torch.full((count,), 0.7), colour,
            torch.eye(3).expand(1, count, 3, 3), train.fps,
        )  # fmt: skip
        columns.append(asset.render_grid(unseen.cameras[:, [frame]], H, W).frames)
    return dataclasses.replace(unseen, frames=torch.cat(columns, dim=1))


def front_colours(points: torch.Tensor, images: torch.Tensor, views: Viewpoints, spacing: float) -> torch.Tensor:
    """Mean colour [N, 3] over the views in which a point lies within three voxels of the nearest one at its pixel."""
    total, weight = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
    H, W = images.shape[-2:]
    for b in range(len(views)):
        pixel = view_pixels(points, views[b : b + 1])[0].floor().long().clamp(min=0)
        pixel = torch.minimum(pixel, torch.tensor([W - 1, H - 1]))
        depth = points @ views.world_to_camera[b, 2, :3] + views.world_to_camera[b, 2, 3]
        flat = pixel[:, 1] * W + pixel[:, 0]
        nearest = torch.full((H * W,), 1e9).scatter_reduce(0, flat, depth, "amin")
        seen = (depth < nearest[flat] + 3 * spacing).float()[:, None]
        total += seen * images[b, :, pixel[:, 1], pixel[:, 0]].T
        weight += seen
    return torch.where(weight > 0, total / weight.clamp(min=1), torch.full((), 0.5))


def static_per_frame(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> FrameGrid:
    """Each frame fitted by itself; all frames together draw as many pictures as the 4D fit does."""
    F = train.shape[1]
    options = config.gaussians
    cells = options.frames_per_step * options.views_per_step
    steps = max(1, (4 * options.static_iterations + cells * options.dynamic_iterations) // (4 * F))
    alone = dataclasses.replace(
        config, gaussians=dataclasses.replace(options, static_iterations=steps, dynamic_iterations=0)
    )
    assert unseen.cameras is not None
    columns = []
    for frame in range(F):
        part = train[:, [frame]]
        fit, _ = fit_gaussians(part, alone)
        columns.append(bake(fit, part).render_grid(unseen.cameras[:, [frame]], *train.shape[3:]).frames)
    return dataclasses.replace(unseen, frames=torch.cat(columns, dim=1))
