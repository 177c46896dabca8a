"""Do the cameras turn the way the pictures do? Grids of other programs may count azimuth clockwise."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.log import log
from viewtime.recon.render.splats import Viewpoints

from .hull import cube_votes
from .targets import Targets

VOXELS = 48  # along each side of the cube that the cameras see
MOST_FRAMES = 4
CLEARLY = 1.1  # times the volume; symmetric objects and noise stay below


def agreed_volume(masks: Tensor, views: Viewpoints, reach: float) -> int:
    """Voxels that all B masks [B, H, W] of one instant show as object: views that disagree carve them away."""
    return int((cube_votes(masks, views, reach, VOXELS) == len(views)).sum())


def mirrored_fits_better(targets: Targets, cameras: Cameras) -> bool:
    """Whether the masks agree clearly better with every azimuth negated; says so in a warning.

    Silhouettes seen from far away at one level are the same from both sides, so what tells the signs apart is
    perspective and elevation: a true answer is certain, a false one only means that nothing speaks against the cameras.
    """
    _, F, H, W = targets.shape
    mirrored = Viewpoints.of(replace(cameras, azimuth=-cameras.azimuth), H, W)
    own = other = 0
    for frame in sorted({k * (F - 1) // max(1, MOST_FRAMES - 1) for k in range(MOST_FRAMES)}):
        usable = targets.usable[:, frame].nonzero().flatten()
        cells, masks = targets.cell(usable, torch.full_like(usable, frame)), targets.images[usable, frame, 3]
        own += agreed_volume(masks, targets.views[cells], targets.reach)
        other += agreed_volume(masks, mirrored[cells], targets.reach)
    better = other > CLEARLY * max(1, own)
    if better:
        log.warning(
            "the masks agree on %.0f %% more volume with every azimuth negated: the grid seems to count azimuth "
            "clockwise; azimuth is positive counter-clockwise seen from above, so negate it in the grid's cameras",
            100 * (other / max(1, own) - 1),
        )
    return better
