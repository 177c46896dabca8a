"""Where along its ray each pixel's part stands, agreed with its neighbours: a leg is one leg from hip to foot.

Each pixel by itself takes the cell that is densest, and a limb falls to pieces where two places are about as likely, or
jumps from frame to frame. So neighbours of the outline, beside each other and from one frame to the next, pay for
standing at other depths, and the likeliest depths of all are sought together: loopy belief propagation, max-product,
with a cost that grows with the distance (Felzenszwalb & Huttenlocher 2006, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

JUMP = 0.3  # cost of a cell of depth between two neighbours; the negative logarithm of an opacity is the other cost
MOST = 8.0  # that one neighbour's word costs: parts may be torn apart in the end
FAINTEST = 1e-4  # opacity below which cells are all as unlikely
ROUNDS = 8  # of messages: so many pixels far a word goes
# Dimension (frame, y, x) and step; each pair faces each other.
SIDES = ((-4, 1), (-4, -1), (-2, 1), (-2, -1), (-1, 1), (-1, -1))
DEPTHS = -3  # dimension


@torch.no_grad()  # an index has no gradient, and the messages would be kept
def agreed_depths(opacity: Tensor, outline: Tensor, frames: int = 1) -> Tensor:
    """The likeliest cell along every ray of the outline, given its neighbours.

    Args:
        opacity: per cell, in 0 … 1 [N, D, S, S]. outline: 0 or 1 [N, 1, S, S]; pixels outside say nothing.
        frames: N is a multiple of it; so many pictures in a row are frames of one object.

    Returns:
        Indices along D [N, 1, S, S].
    """
    own = torch.log(opacity.clamp_min(FAINTEST)).unflatten(0, (-1, frames))
    own, outline = own - own.amax(dim=DEPTHS, keepdim=True), outline.unflatten(0, (-1, frames))
    words = [torch.zeros_like(own) for _ in SIDES]
    for _ in range(ROUNDS):
        belief = own + sum(words)
        # A pixel tells a neighbour what it believes but for what that neighbour itself has told it.
        words = [_told(belief - words[index ^ 1], outline, dim, step) for index, (dim, step) in enumerate(SIDES)]
    return (own + sum(words)).argmax(dim=DEPTHS, keepdim=True).flatten(0, 1)


def _told(belief: Tensor, outline: Tensor, dim: int, step: int) -> Tensor:
    """What every pixel hears from the one `step` before it along `dim`: at most what the nearest depths are worth."""
    word, reach = belief, 1
    while reach < belief.shape[DEPTHS]:
        nearest = torch.maximum(_moved(word, DEPTHS, reach), _moved(word, DEPTHS, -reach))
        word = torch.maximum(word, nearest - JUMP * reach)
        reach *= 2
    word = (word - word.amax(dim=DEPTHS, keepdim=True)).clamp_min(-MOST)
    return _moved(word * outline, dim, step, filling=0.0) * outline


def _moved(x: Tensor, dim: int, step: int, filling: float = float("-inf")) -> Tensor:
    """x with every value `step` further along `dim`."""
    size = x.shape[dim]
    filled = torch.full_like(x.narrow(dim, 0, abs(step)), filling)
    kept = x.narrow(dim, max(-step, 0), size - abs(step))
    return torch.cat([filled, kept] if step > 0 else [kept, filled], dim=dim)
