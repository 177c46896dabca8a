"""What the outline of a picture says of the solid behind it, written down for the network: planes beside the picture.

A limb is about as deep as it is wide, so the width of the part that a pixel belongs to is a first guess of its depth;
an animal that looks at the camera is its own mirror image; and where the ground lies follows from the elevation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HINTS = 10
SHRINKS = 12  # pixels at half the picture's size: a part wider than twice as many counts as that wide


def widths(outline: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the outline, and half the width of the part around each pixel (local thickness), in pixels.

    The local thickness is the radius of the largest octagon inside the outline that covers the pixel: a granulometry by
    opening (Hildebrand and Rüegsegger 1997 define it with spheres).

    Args:
        outline: [N, 1, h, w], 1 inside and 0 outside.
    """
    inside, distance, thickness = outline, outline.clone(), outline.clone()
    for radius in range(1, SHRINKS):
        inside = -_grown(-inside, radius)
        distance = distance + inside
        opened = inside
        for back in range(radius, 0, -1):
            opened = _grown(opened, back)
        thickness = thickness + opened
    return distance, thickness


def _grown(mask: Tensor, radius: int) -> Tensor:
    """A mask grown by one pixel: in squares and diamonds by turns, which makes octagons."""
    if radius % 2:
        tall = F.max_pool2d(mask, (3, 1), stride=1, padding=(1, 0))
        return torch.maximum(tall, F.max_pool2d(mask, (1, 3), stride=1, padding=(0, 1)))
    return F.max_pool2d(mask, 3, stride=1, padding=1)


def mirrored(picture: Tensor) -> Tensor:
    """A picture [N, 4, h, w] in [-1, 1] mirrored about the vertical line through the middle of its alpha."""
    N, width = len(picture), picture.shape[-1]
    alpha = (picture[:, 3] + 1) / 2
    across = (torch.arange(width, device=picture.device) + 0.5) / width * 2 - 1
    middle = (alpha * across).sum(dim=(-2, -1)) / alpha.sum(dim=(-2, -1)).clamp_min(1e-3)
    turn = picture.new_zeros(N, 2, 3)
    turn[:, 0, 0], turn[:, 1, 1], turn[:, 0, 2] = -1, 1, 2 * middle
    empty = picture.new_ones(4, 1, 1)
    empty[3] = -1
    places = F.affine_grid(turn, list(picture.shape), align_corners=False)
    return F.grid_sample(picture - empty, places, align_corners=False) + empty


def draw_hints(picture: Tensor, elevation: Tensor, slope: Tensor) -> Tensor:
    """The planes, about in -1 … 1: [N, HINTS, S/2, S/2].

    Args:
        picture: [N, 4, S, S] in [-1, 1], on white.
        elevation: of its camera [N], degrees. slope: tan(fov / 2) [N].
    """
    small = F.avg_pool2d(picture, 2)
    N, _, height, width = small.shape
    distance, thickness = widths((small[:, 3:] > 0).to(small))
    down, across = ((torch.arange(count, device=picture.device) + 0.5) / count * 2 - 1 for count in (height, width))
    tilt = torch.sin(torch.deg2rad(elevation.to(small)))
    planes = torch.stack(
        [
            distance[:, 0] / SHRINKS,
            thickness[:, 0] / SHRINKS,
            tilt[:, None, None].expand(-1, height, width),
            slope.to(small)[:, None, None].expand(-1, height, width),
            across.expand(N, height, width),
            down[:, None].expand(N, height, width),
        ],
        dim=1,
    )
    return torch.cat([planes, mirrored(small)], dim=1)
