"""Frames between two: flow and warps by a picture that is moved by a known amount, and pins of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.pins import assert_pinned
from viewtime.sample.run.between import by_flow, linear, optical_flow, premultiplied, straight, warped


def picture(shift_x: float = 0.0, shift_y: float = 0.0, height: int = 32, width: int = 52) -> Tensor:
    """A smooth pattern, moved by so many pixels to the right and down, [1, 1, H, W]."""
    y, x = torch.meshgrid(torch.arange(float(height)) - shift_y, torch.arange(float(width)) - shift_x, indexing="ij")
    return (0.5 + 0.2 * torch.sin(0.3 * x + 0.11 * y) + 0.2 * torch.cos(0.23 * y - 0.09 * x))[None, None]


def test_flow_leads_from_one_picture_to_the_other() -> None:
    flow = optical_flow(picture(), picture(2.5, -1.5))
    inner = flow[0, :, 6:-6, 6:-6]
    assert inner[0].mean() == pytest.approx(2.5, abs=0.1)
    assert inner[1].mean() == pytest.approx(-1.5, abs=0.1)
    assert_pinned("flow", flow, 2e-3)
    assert optical_flow(torch.full((1, 1, 30, 40), 0.3), torch.full((1, 1, 30, 40), 0.3)).abs().max() < 1e-6


def test_a_warp_reads_at_the_place_and_the_edge_goes_on() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0], flow[:, 1] = 1.0, -1.0
    wanted = torch.tensor([[1.0, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]])
    torch.testing.assert_close(warped(image, flow)[0, 0], wanted)
    flow[:, 0], flow[:, 1] = 0.5, 0.0
    assert warped(image, flow)[0, 0, 1].tolist() == pytest.approx([4.5, 5.5, 6.5, 7])


def test_colours_count_by_their_alpha() -> None:
    first = torch.tensor([1.0, 0.0, 0.0, 1.0])[:, None, None]
    last = torch.tensor([0.0, 0.0, 1.0, 0.25])[:, None, None]
    quarter, half = linear(first, last, torch.tensor([0.25, 0.5]))
    assert half.flatten().tolist() == pytest.approx([0.8, 0, 0.2, 0.625])
    assert quarter.flatten().tolist() == pytest.approx([12 / 13, 0, 1 / 13, 13 / 16])
    plain = linear(first[:3], last[:3], torch.tensor([0.25]))[0]
    assert plain.flatten().tolist() == [0.75, 0, 0.25]
    cell = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(straight(premultiplied(cell)), cell)
    clear = straight(torch.tensor([0.3, 0.2, 0.1, 0.0])[:, None, None])
    assert clear.flatten().tolist() == [0, 0, 0, 0]


def test_frames_between_lie_on_the_way() -> None:
    def cell(shift: float) -> Tensor:
        return torch.cat([picture(shift)[0].expand(3, -1, -1) * 0.9, torch.ones(1, 32, 52)])

    made = by_flow(cell(0), cell(4), torch.tensor([0.25, 0.5]))
    for frame, shift in zip(made, (1.0, 2.0)):
        assert (frame - cell(shift))[:, 6:-6, 8:-8].abs().max() < 0.02
    assert_pinned("between", made, 2e-3)
    assert (linear(cell(0), cell(4), torch.tensor([0.5]))[0] - cell(2))[:, 6:-6, 8:-8].abs().max() > 0.03
