"""Which density is the surface? The level whose silhouettes agree best with the training masks.

It is taken from the first frame, or from the one in which its parts touch least where that agrees better.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.moving import MovingGaussians
from viewtime.recon.render.splats import Viewpoints

from .mesh import MovingMesh, extract_mesh, most_open
from .paint import paint
from .refine import refine
from .silhouette import silhouettes
from .texture import textured

LEVELS = (0.25, 0.4, 0.6, 0.8, 1.0)


def mesh_iou(mesh: MovingMesh, targets: Targets, frames: list[int]) -> np.ndarray:
    """IoU [V, len(frames)] of the mesh's silhouettes with the masks; NaN in cells that are left out."""
    V = targets.shape[0]
    result = np.full((V, len(frames)), np.nan)
    for column, frame in enumerate(frames):
        cells = targets.cell(torch.arange(V), torch.tensor(frame))
        drawn = silhouettes(mesh.positions[frame], mesh.triangles, targets.views[cells]) > 0.5
        mask = targets.images[:, frame, 3].numpy() > 0.5
        union = (drawn | mask).sum(axis=(1, 2))
        value = (drawn & mask).sum(axis=(1, 2)) / np.maximum(union, 1)
        result[:, column] = np.where(targets.usable[:, frame].numpy(), value, np.nan)
    return result


def with_views_between(asset: MovingGaussians, targets: Targets, cameras: Cameras) -> Targets:
    """The targets, and what the asset shows half way between each two neighbouring views.

    Between the views a mesh is bound by its smoothness alone, and the fit knows better.
    """
    both = cameras.with_middles()
    V, _, H, W = targets.shape
    seen = asset.render_grid(both[V:], H, W)
    mask = seen.alpha()
    assert mask is not None
    return Targets(
        torch.cat([targets.images, torch.cat([seen.rgb(), mask], dim=2)]),
        torch.cat([targets.usable, (mask > 0.5).flatten(2).any(dim=2)]),
        Viewpoints.of(both, H, W),
        targets.reach,
    )


class Candidate(NamedTuple):
    """A surface at a density level, and how well it agrees with the masks in some frames, mean IoU."""

    mesh: MovingMesh
    level: float
    agreement: float


def _candidate(asset: MovingGaussians, targets: Targets, options: MeshOptions, level: float, base: int) -> Candidate:
    F = targets.shape[1]
    frames = sorted({0, F // 2, F - 1})
    mesh = extract_mesh(asset, level=level, resolution=options.resolution, faces=options.faces, base=base)
    return Candidate(mesh, level, float(np.nanmean(mesh_iou(mesh, targets, frames))))


def _agreement(candidate: Candidate) -> float:
    return candidate.agreement


def best_mesh(
    asset: MovingGaussians, targets: Targets, cameras: Cameras, options: MeshOptions
) -> tuple[MovingMesh, float]:
    """The best candidate, refined against the masks and painted from the pictures; its mean training IoU.

    Args:
        cameras: of the targets.
    """
    F = targets.shape[1]
    levels = [level for level in LEVELS if level < 0.8 * float(asset.opacity.max()) * 2]
    best = max((_candidate(asset, targets, options, level, 0) for level in levels), key=_agreement)
    if opened := most_open(asset):
        best = max(best, _candidate(asset, targets, options, best.level, opened), key=_agreement)
    mesh = best.mesh
    painted = options.colours != "gaussians"
    more = with_views_between(asset, targets, cameras) if options.refine_iterations or painted else targets
    if options.refine_iterations:
        mesh = refine(mesh, more, options.refine_iterations)
    if painted:
        mesh = paint(mesh, more)
    if options.colours == "texture":
        mesh = textured(mesh, more, options.texture_size)
    return mesh, float(np.nanmean(mesh_iou(mesh, targets, list(range(F)))))
