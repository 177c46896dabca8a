"""Depths agreed between neighbours: the cheapest of all on a chain, one limb in one piece, and nothing across a gap."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from viewtime.model.mini.places import JUMP, agreed_depths

SIDE, DEPTH = 8, 6


def column(rows: slice, at: int = 4) -> Tensor:
    """An outline one pixel wide [1, 1, SIDE, SIDE]."""
    outline = torch.zeros(1, 1, SIDE, SIDE)
    outline[:, :, rows, at] = 1
    return outline


def cheapest(own: Tensor) -> tuple[int, ...]:
    """The best depths of a chain by trying all; own: log opacities [length, D]."""
    length, depth = own.shape
    worth = {
        depths: sum(float(own[place, at]) for place, at in enumerate(depths))
        - JUMP * sum(abs(a - b) for a, b in itertools.pairwise(depths))
        for depths in itertools.product(range(depth), repeat=length)
    }
    return max(worth, key=worth.__getitem__)


@pytest.mark.parametrize("direction", ["down", "across", "frames"])
def test_on_a_chain_it_finds_the_cheapest_of_all_depths(direction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    length = 5
    for _ in range(10):
        frames = length if direction == "frames" else 1
        opacity = 0.05 + 0.9 * torch.rand(frames, DEPTH, SIDE, SIDE, generator=generator)
        outline = column(slice(2, 3 if direction == "frames" else 2 + length)).repeat(frames, 1, 1, 1)
        if direction == "across":
            outline = outline.transpose(2, 3)
        own = opacity.permute(0, 2, 3, 1)[outline[:, 0] > 0].log()
        found = agreed_depths(opacity, outline, frames)[outline > 0].tolist()
        assert tuple(found) == cheapest(own)


def test_frames_of_one_object_agree_and_those_of_two_do_not() -> None:
    outline = column(slice(2, 3)).repeat(6, 1, 1, 1)
    opacity = torch.full((6, DEPTH, SIDE, SIDE), 0.01)
    opacity[:3, 1] = opacity[3:, 5] = 0.4
    opacity[2, 5], opacity[3, 1] = 0.45, 0.45  # the last of the first and the first of the second are in doubt
    inside = outline > 0
    assert agreed_depths(opacity, outline)[inside].tolist() == [1, 1, 5, 1, 5, 5]
    assert agreed_depths(opacity, outline, 3)[inside].tolist() == [1, 1, 1, 5, 5, 5]


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
