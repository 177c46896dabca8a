"""What is done to a drawn solid: stripes go, mist becomes a part as deep as it is wide, and what is firm stays."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.pins import assert_pinned
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.frustum import Frustum, SolidCameras
from viewtime.model.mini.rays import SLOPE, camera_axes
from viewtime.model.mini.settle import OPAQUE, settle, smooth

SIDE = 16


def pole(width: int = 2) -> Tensor:
    """Alpha of a pole that stands in the middle [1, SIDE, SIDE]."""
    alpha = torch.zeros(1, SIDE, SIDE)
    alpha[:, 2:14, SIDE // 2 - width // 2 : SIDE // 2 + width // 2] = 1
    return alpha


def from_the_side(density: Tensor) -> Tensor:
    """Optical depth of [1, D, y, x] along x: [1, D, y]."""
    return density.sum(dim=-1)


def test_stripes_and_chequers_go_and_what_is_even_stays() -> None:
    cell = torch.arange(SIDE)
    striped = torch.ones(1, 4, SIDE, SIDE, SIDE)
    striped[:, 3] += (-1.0) ** cell[:, None, None]
    striped[:, :3] += (-1.0) ** (cell[:, None] + cell)
    inner = smooth(striped)[..., 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.ones_like(inner))
    edges = smooth(torch.ones(1, 4, SIDE, SIDE, SIDE))
    torch.testing.assert_close(edges, torch.ones_like(edges))


def test_mist_becomes_a_pole_where_it_is_densest() -> None:
    """Four cells around depth 11, of a third of what makes it opaque from the side."""
    alpha = pole()
    mist = torch.zeros(1, SIDE, SIDE, SIDE)
    mist[:, 10:13] = alpha[:, None] * OPAQUE / 3 / 2 / 3
    assert from_the_side(mist).max() < OPAQUE / 3
    pole_again = from_the_side(settle(mist, alpha))[0, :, 5]
    assert pole_again[11] > 0.5 * OPAQUE
    deep = (pole_again > 0.25 * OPAQUE).nonzero().flatten()
    assert deep.min() >= 10
    assert deep.max() <= 12
    assert pole_again[:8].max() < 0.1 * OPAQUE


def test_of_two_mists_the_denser_one_becomes_the_pole() -> None:
    alpha = pole()
    mist = torch.zeros(1, SIDE, SIDE, SIDE)
    mist[:, 3:5] = alpha[:, None] * OPAQUE / 20
    mist[:, 11:14] = alpha[:, None] * OPAQUE / 15
    seen = from_the_side(settle(mist, alpha))[0, :, 5]
    assert int(seen.argmax()) == 12
    assert seen[12] > 0.5 * OPAQUE
    assert seen[3:9].max() < 0.15 * OPAQUE
    anything = torch.rand(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.1
    assert_pinned("settled", settle(anything, pole(4)), 1e-4)


def test_a_part_in_doubt_stands_where_it_stood_in_the_frame_before() -> None:
    alpha = pole().expand(2, -1, -1)
    mist = torch.zeros(2, SIDE, SIDE, SIDE)
    mist[0, 3:6] = mist[1, 3:6] = alpha[0] * OPAQUE / 15
    mist[1, 11:14] = alpha[0] * OPAQUE / 12
    alone, followed = (from_the_side(settle(mist, alpha, frames))[1, :, 5] for frames in (1, 2))
    assert int(alone.argmax()) == 12
    assert int(followed.argmax()) == 4


def test_objects_of_a_batch_are_apart_and_frames_only_with_frame_attention() -> None:
    """Of two objects of two frames each is filled as alone."""
    torch.manual_seed(0)
    picture = torch.rand(4, 4, 2 * SIDE, 2 * SIDE) * 2 - 1
    picture[:, 3] = -1
    picture[:, 3, 4:28, 10:22] = 1
    axes = camera_axes(torch.zeros(4), torch.zeros(4))
    cameras = SolidCameras(axes, torch.zeros(4), axes[:, None], torch.full((4,), SLOPE))
    for attention in (True, False):
        config = MiniConfig(2 * SIDE, depth=0, frustum_width=8, frustum_settle=True, frame_attention=attention)
        frustum = Frustum(config)
        torch.nn.init.normal_(frustum.network.leave.weight, std=0.3)
        torch.nn.init.constant_(frustum.network.leave.bias, -1.3)
        both = frustum.fill(picture, cameras, 2)
        for first in (0, 2):
            part = slice(first, first + 2)
            alone = frustum.fill(picture[part], SolidCameras(*(value[part] for value in cameras)), 2)
            torch.testing.assert_close(both[part], alone, atol=1e-4, rtol=1e-4)
        by_itself = frustum.fill(picture, cameras, 1)
        assert torch.equal(both, by_itself) is not attention


def test_what_is_firm_or_outside_stays() -> None:
    alpha = pole(4)
    firm = torch.zeros(1, SIDE, SIDE, SIDE)
    firm[:, 2:9] = 5.0 * alpha[:, None]
    torch.testing.assert_close(settle(firm, alpha), firm, atol=1e-3, rtol=0)
    anything = torch.rand(1, SIDE, SIDE, SIDE) * 0.01
    settled = settle(anything, alpha)
    outside = (alpha == 0)[:, None].expand_as(settled)
    assert torch.equal(settled[outside], anything[outside])
    assert (settled >= anything).all()


def test_a_settled_solid_is_seen_from_the_side_and_has_a_gradient() -> None:
    """A faint network: without settling its pole is mist from the side; with it the densities have a gradient."""
    torch.manual_seed(0)
    picture = torch.cat([torch.ones(1, 3, 2 * SIDE, 2 * SIDE), torch.full((1, 1, 2 * SIDE, 2 * SIDE), -1.0)], dim=1)
    picture[:, :, 4:28, 14:18] = torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None, None]
    axes = camera_axes(torch.zeros(1, 2), torch.tensor([[0.0, 90.0]]))
    cameras = SolidCameras(axes[:, 0], torch.zeros(1), axes, torch.full((1,), SLOPE))
    seen = {}
    for settled in (False, True):
        config = MiniConfig(size=2 * SIDE, depth=0, frustum_width=8, frustum_settle=settled)
        frustum = Frustum(config)
        torch.nn.init.constant_(frustum.network.leave.bias, -1.3)
        alpha = (frustum(picture, cameras)[0, 1, 3] + 1) / 2
        seen[settled] = alpha[3:13].amax(dim=-1).mean().item()
        if settled:
            alpha.square().sum().backward()
            gradient = frustum.network.leave.bias.grad
            assert gradient is not None
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0
    assert seen[False] < 0.35
    assert seen[True] > 0.6
