"""Which density is the surface? The level whose silhouettes agree best with the training masks.

It is taken from the first frame, or from the one in which its parts touch least where that agrees better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.moving import MovingGaussians
from viewtime.recon.render.splats import Viewpoints

from .mesh import Density, MovingMesh, carry, density_volume, extract_mesh, level_surface, most_open
from .paint import paint
from .refine import refine
from .silhouette import silhouettes
from .texture import textured

LEVELS = (0.25, 0.4, 0.6, 0.8, 1.0)
USUAL = 0.4


def mesh_iou(positions: np.ndarray, triangles: np.ndarray, targets: Targets, frames: list[int]) -> np.ndarray:
    """IoU [V, len(frames)] of silhouettes with the masks; NaN in cells that are left out.

    Args:
        positions: [len(frames), P, 3], of the vertices in these frames.
    """
    V = targets.shape[0]
    result = np.full((V, len(frames)), np.nan)
    for column, frame in enumerate(frames):
        cells = targets.cell(torch.arange(V), torch.tensor(frame))
        drawn = silhouettes(positions[column], triangles, targets.views[cells]) > 0.5
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

    density: Density
    level: float
    agreement: float


def _candidate(asset: MovingGaussians, targets: Targets, density: Density, level: float) -> Candidate:
    """Judged before it is decimated, which takes longer than everything else."""
    F = targets.shape[1]
    frames = sorted({0, F // 2, F - 1})
    vertices, triangles = level_surface(density, level)
    positions, _ = carry(asset, vertices, base=density.frame, frames=frames)
    return Candidate(density, level, float(np.nanmean(mesh_iou(positions, triangles, targets, frames))))


def _agreement(candidate: Candidate) -> float:
    return candidate.agreement


def best_level(levels: list[float], judge: Callable[[float], Candidate]) -> Candidate:
    """The level from which agreement falls on both sides, sought from the usual one."""
    judged: dict[int, Candidate] = {}
    at = min(levels.index(USUAL) if USUAL in levels else 0, len(levels) - 1)
    while True:
        for near in (at, at - 1, at + 1):
            if 0 <= near < len(levels) and near not in judged:
                judged[near] = judge(levels[near])
        best = max(judged, key=lambda index: judged[index].agreement)
        if best == at:
            return judged[at]
        at = best


def best_mesh(
    asset: MovingGaussians, targets: Targets, cameras: Cameras, options: MeshOptions
) -> tuple[MovingMesh, float]:
    """The best candidate, refined against the masks and painted from the pictures; its mean training IoU.

    Args:
        cameras: of the targets.
    """
    F = targets.shape[1]
    levels = [level for level in LEVELS if level < 0.8 * float(asset.opacity.max()) * 2]
    density = density_volume(asset, 0, options.resolution)
    best = best_level(levels, lambda level: _candidate(asset, targets, density, level))
    if opened := most_open(asset):
        density = density_volume(asset, opened, options.resolution)
        best = max(best, _candidate(asset, targets, density, best.level), key=_agreement)
    mesh = extract_mesh(asset, level=best.level, faces=options.faces, density=best.density)
    painted = options.colours != "gaussians"
    more = with_views_between(asset, targets, cameras) if options.refine_iterations or painted else targets
    if options.refine_iterations:
        mesh = refine(mesh, more, options.refine_iterations)
    if painted:
        mesh = paint(mesh, more)
    if options.colours == "texture":
        mesh = textured(mesh, more, options.texture_size)
    return mesh, float(np.nanmean(mesh_iou(mesh.positions, mesh.triangles, targets, list(range(F)))))
