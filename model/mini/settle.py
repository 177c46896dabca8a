"""What a solid must be, whatever the network drew: smooth from cell to cell, and opaque where the picture shows it.

A network that is unsure how deep a leg stands spreads it along the ray: seen from the picture's camera it is there,
from the side it is mist. But a part that shows w wide in the outline is about as deep, and opaque from every side. So
where the drawn densities are mist, the part is put where they are densest, in line with its neighbours in the picture
and with itself over the frames, as deep as it is wide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.model.mini.hints import widths
from viewtime.model.mini.places import agreed_depths

NARROW, WIDE = (0.25, 0.5, 0.25), (0.0625, 0.25, 0.375, 0.25, 0.0625)  # binomial filters
OPAQUE = 2.0  # optical depth of a part seen from the side
EDGE = 3.0  # steepness of a part's two faces, per cell
THINNEST = 0.7  # cells, half of a part's depth
SEEN = 0.2  # alpha from which a pixel belongs to the outline


def smooth(drawn: Tensor) -> Tensor:
    """Logits of colour and density [N, 4, D, h, w] -> same; densities along the rays, colours across them too.

    Each slice of depth is a channel of the network, and each picture has its chequered pixels: both show from the side.
    """
    colour, density = _blur(drawn, WIDE, 2).split((3, 1), dim=1)
    for dim in (3, 4):
        colour = _blur(colour, NARROW, dim)
    return torch.cat([colour, density], dim=1)


def settle(density: Tensor, alpha: Tensor, frames: int = 1) -> Tensor:
    """Densities with every part of the outline opaque from the side as well.

    Args:
        density: optical depth per cell [N, D, S, S], cells as deep as wide.
        alpha: of the picture [N, S, S], in 0 … 1.
        frames: N is a multiple of it; so many pictures in a row are frames of one object.

    Returns:
        [N, D, S, S], nowhere less than `density`.
    """
    outline = (alpha > SEEN).to(density)[:, None]
    width = 2 * widths(outline)[1].clamp_min(0.5)
    full = 1 - torch.exp(-density[:, None])
    for dim, kernel in ((2, WIDE), (3, NARROW), (4, NARROW)):
        full = _blur(full, kernel, dim)
    full = full[:, 0]
    cell = torch.arange(density.shape[1], device=density.device).to(density).view(1, -1, 1, 1)
    place = _within(agreed_depths(full, outline, frames).to(density), outline)
    part = torch.sigmoid(EDGE * ((width / 2).clamp_min(THINNEST) - (cell - place).abs()))
    mist = torch.exp(-(density * width * part).amax(dim=1, keepdim=True))
    return torch.maximum(density, outline * part * mist * OPAQUE / width)


def _within(values: Tensor, outline: Tensor) -> Tensor:
    """[N, 1, S, S] filtered across the picture, over the pixels of the outline alone."""
    both = torch.cat([values * outline, outline])[:, None]
    for dim in (3, 4):
        both = _blur(both, NARROW, dim)
    values, share = both[:, 0].chunk(2)
    return values / share.clamp_min(1e-6)


def _blur(cells: Tensor, kernel: tuple[float, ...], dim: int) -> Tensor:
    """[N, C, z, y, x] filtered along `dim`, its ends repeated."""
    reach, last = len(kernel) // 2, cells.shape[dim] - 1
    index = torch.arange(-reach, last + reach + 1, device=cells.device).clamp(0, last)
    padded = cells.index_select(dim, index)
    return torch.stack([share * padded.narrow(dim, at, last + 1) for at, share in enumerate(kernel)]).sum(dim=0)
