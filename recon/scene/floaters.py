"""Points that no picture confirms: opacities learned in the frame coordinates of each view, the faint ones dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.log import log
from viewtime.recon.render.renderer import render
from viewtime.recon.render.splats import Viewpoints, spread

RATE = 0.1
START = 1.0  # logit, as the fit starts
FAINT = 0.1  # opacity of a floater
VIEWS_PER_STEP = 2


def confirmed_opacity(
    places: Tensor,
    scale: Tensor,
    colours: Tensor,
    pictures: Tensor,
    behind: Tensor,
    views: Viewpoints,
    iterations: int,
    seed: int,
) -> Tensor:
    """Opacity [N] of isotropic Gaussians by a rendering loss on every view, all else fixed.

    The points are in frame coordinates, so that no camera's place comes in (4Real-Video, supplement 6, "Removing
    boundary floaters").

    Args:
        places: [V, N, 3] frame coordinates. scale: [N], sizes. colours: [N, 3]. pictures: [V, 3, H, W].
        behind: [3, 1, 1], the colour where no point is. views: one per picture; of these only the lens counts.
    """
    logit = torch.full((places.shape[1],), START, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    variance = scale.square()[None, :, None]
    identity = torch.eye(4)
    for _ in range(iterations):
        chosen = torch.randperm(len(pictures), generator=generator)[:VIEWS_PER_STEP]
        lens = views[chosen]
        lens = Viewpoints(spread(identity[None], len(chosen)), lens.focal, lens.centre, lens.height, lens.width)
        drawn = render(places[chosen], variance, logit.sigmoid()[None], colours[None], lens)
        loss = (drawn.rgb + (1 - drawn.alpha) * behind - pictures[chosen]).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    opacity = logit.detach().sigmoid()
    log.info("floaters: %d of %d points are dropped", int((opacity < FAINT).sum()), len(opacity))
    return opacity
