"""Volume rendering of solids against its dense twin, in value and gradient; what outlines say of solids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from viewtime.model.mini import solid as module
from viewtime.model.mini.hints import HINTS, draw_hints, mirrored, widths
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.model.mini.solid import render_densely, render_solid

SIDE, DEPTHS, RAYS = 12, 8, 10


def scattered_solids() -> Tensor:
    """Three solids with empty and full cells: [3, 4, DEPTHS, SIDE, SIDE]."""
    generator = torch.Generator().manual_seed(1)
    solid = torch.rand(3, 4, DEPTHS, SIDE, SIDE, generator=generator)
    full = torch.rand(3, DEPTHS, SIDE, SIDE, generator=generator) < 0.15
    solid[:, 3] = (0.5 + 5 * solid[:, 3]) * full
    return solid


def cameras() -> tuple[Tensor, Tensor, Tensor]:
    """(axes of the input's cameras, of four that look, slopes), at all elevations and fields of view."""
    generator = torch.Generator().manual_seed(2)
    axes = camera_axes(80 * torch.rand(3, 5, generator=generator) - 30, 360 * torch.rand(3, 5, generator=generator))
    return axes[:, 0], axes[:, 1:], slope_of(torch.tensor([10.0, 33.8, 60.0]))


@pytest.mark.parametrize("at_once", [1, 2 * 4 * RAYS * RAYS * DEPTHS, 1 << 30])
def test_sampling_only_what_is_full_is_sampling_everything(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """At once: a view of a picture, two pictures of four views, everything."""
    monkeypatch.setattr(module, "POINTS_AT_ONCE", (at_once, at_once))
    weight = torch.randn(3, 4, 4, RAYS, RAYS, generator=torch.Generator().manual_seed(3))
    results = []
    for render in (render_solid, render_densely):
        solid = scattered_solids().requires_grad_()
        picture = render(solid, *cameras(), RAYS)
        (picture * weight).sum().backward()
        assert solid.grad is not None
        # Where a cell is empty the dense gradient says how it would fill; the solid's network has no use for it.
        results.append((picture.detach(), solid.grad * (solid.detach()[:, 3:] > 0)))
    (fast, fast_gradient), (slow, slow_gradient) = results
    assert (slow[:, :, 3] > -1).float().mean() > 0.2
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(fast_gradient, slow_gradient, atol=1e-4, rtol=1e-4)


def test_an_empty_solid_is_white_and_transparent() -> None:
    picture = render_solid(torch.zeros(3, 4, DEPTHS, SIDE, SIDE), *cameras(), RAYS)
    torch.testing.assert_close(picture, torch.tensor([1.0, 1, 1, -1])[:, None, None].expand(3, 4, 4, RAYS, RAYS))


def drawn(*boxes: tuple[slice, slice]) -> Tensor:
    outline = torch.zeros(1, 1, 40, 40)
    for rows, columns in boxes:
        outline[:, :, rows, columns] = 1
    return outline


def test_the_width_of_a_limb_is_the_limbs_and_not_the_bodys() -> None:
    body, leg = (slice(10, 20), slice(5, 35)), (slice(20, 36), slice(8, 12))
    distance, thickness = widths(drawn(body, leg))
    assert thickness[0, 0, 28, 9] == 2  # a leg of 4 pixels
    assert thickness[0, 0, 15, 20] == 5  # a body of 10
    assert thickness[0, 0, 11, 20] == 5  # at its edge too, though the outline is near
    assert distance[0, 0, 11, 20] == 2
    assert thickness[0, 0, 0, 0] == 0


def test_what_faces_the_camera_is_its_own_mirror_image() -> None:
    picture = torch.tensor([1.0, 1.0, 1.0, -1.0])[None, :, None, None].repeat(1, 1, 32, 32)
    picture[:, :, 8:24, 4:16] = torch.tensor([-1.0, 0.5, 0.0, 1.0])[:, None, None]  # off the middle
    torch.testing.assert_close(mirrored(picture), picture, atol=1e-5, rtol=0)
    picture[:, :, 20:24, 4:8] = torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None]
    assert (mirrored(picture) - picture).abs().max() > 1


def test_hints_carry_the_camera() -> None:
    picture = torch.zeros(2, 4, 16, 16)
    hints = draw_hints(picture, torch.tensor([0.0, 30.0]), torch.tensor([0.2, 0.4]))
    assert hints.shape == (2, HINTS, 8, 8)
    torch.testing.assert_close(hints[:, 2, 3, 3], torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(hints[:, 3, 3, 3], torch.tensor([0.2, 0.4]))
