"""Depths agreed between neighbours: the cheapest of all on a chain, one limb in one piece, and nothing across a gap."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from viewtime.model.mini.places import JUMP, agreed_depths

SIDE, DEPTH = 8, 6


def column(rows: slice, at: int = 4) -> Tensor:
    """An outline one pixel wide [1, 1, SIDE, SIDE]."""
    outline = torch.zeros(1, 1, SIDE, SIDE)
    outline[:, :, rows, at] = 1
    return outline


def test_on_a_chain_it_finds_the_cheapest_of_all_depths() -> None:
    generator = torch.Generator().manual_seed(0)
    length = 5
    for dim in (2, 3):
        for _ in range(10):
            opacity = 0.05 + 0.9 * torch.rand(1, DEPTH, SIDE, SIDE, generator=generator)
            outline = column(slice(2, 2 + length))
            if dim == 3:
                outline = outline.transpose(2, 3)
            own = opacity[0].permute(1, 2, 0)[outline[0, 0] > 0].log()
            worth = {
                depths: sum(float(own[row, depth]) for row, depth in enumerate(depths))
                - JUMP * sum(abs(a - b) for a, b in itertools.pairwise(depths))
                for depths in itertools.product(range(DEPTH), repeat=length)
            }
            found = agreed_depths(opacity, outline)[outline > 0].tolist()
            assert tuple(found) == max(worth, key=worth.__getitem__)


def limb(doubtful: slice) -> Tensor:
    """Opacities of a limb at depth 1 that might, in some rows, a little rather stand at depth 5."""
    opacity = torch.full((1, DEPTH, SIDE, SIDE), 0.01)
    opacity[:, 1] = 0.4
    opacity[:, 5, doubtful] = 0.45
    return opacity


def test_a_limb_stays_in_one_piece_where_it_is_in_doubt() -> None:
    outline, opacity = column(slice(0, 8)), limb(slice(3, 5))
    assert opacity.argmax(dim=1, keepdim=True)[outline > 0].tolist() == [1, 1, 1, 5, 5, 1, 1, 1]
    assert agreed_depths(opacity, outline)[outline > 0].tolist() == [1] * 8
    certain = opacity.clone()
    certain[:, 1, 3:5] = 1e-4  # what is certain stays where it is
    assert agreed_depths(certain, outline)[outline > 0].tolist() == [1, 1, 1, 5, 5, 1, 1, 1]


def test_nothing_is_told_across_a_gap_or_from_outside() -> None:
    outline, opacity = column(slice(0, 8)), limb(slice(3, 5))
    outline[:, :, 2] = outline[:, :, 5] = 0
    assert agreed_depths(opacity, outline)[0, 0, 3:5, 4].tolist() == [5, 5]
    other = opacity.clone()
    other[..., :4] = torch.rand(1, DEPTH, SIDE, 4, generator=torch.Generator().manual_seed(0))
    inside = outline > 0
    assert torch.equal(agreed_depths(opacity, outline)[inside], agreed_depths(other, outline)[inside])
    two = torch.cat([opacity, limb(slice(0, 8))])
    both = agreed_depths(two, outline.expand(2, -1, -1, -1))
    assert torch.equal(both[:1][inside], agreed_depths(opacity, outline)[inside])  # pictures do not mix
