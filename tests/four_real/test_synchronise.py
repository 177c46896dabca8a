"""Synchronisation layers at their initial values against the paper's formulas."""

from __future__ import annotations

import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.model.four_real.streams import two_streams
from viewtime.model.four_real.synchronise import HardSynchronisation, SoftSynchronisation, ramp_weight

WIDTH = 8


@pytest.fixture
def streams():
    generator = torch.Generator().manual_seed(0)
    time, view = (torch.randn(2, 3, 4, 5, WIDTH, generator=generator) for _ in range(2))
    return time, view, torch.randn(2, 3, 4, WIDTH, generator=generator)


def test_hard_starts_as_the_plain_average(streams):
    time, view, condition = streams
    merged, again = HardSynchronisation(WIDTH)(time, view, condition)
    torch.testing.assert_close(merged, (time + view) / 2, rtol=0, atol=1e-6)
    assert merged is again


@pytest.mark.parametrize("exchange", [0.0, 0.1, 0.35, 0.5])
def test_soft_at_the_weights_of_equation_13(exchange, streams):
    time, view, condition = streams
    new_time, new_view = SoftSynchronisation(WIDTH, exchange)(time, view, condition)
    torch.testing.assert_close(new_time, (1 - exchange) * time + exchange * view, rtol=0, atol=1e-6)
    torch.testing.assert_close(new_view, (1 - exchange) * view + exchange * time, rtol=0, atol=1e-6)


def test_ramp_of_equation_13():
    assert [round(ramp_weight(layer, 4), 6) for layer in (1, 2, 3, 4)] == [0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("layer", [HardSynchronisation(WIDTH), SoftSynchronisation(WIDTH, 0.3)])
def test_noise_level_modulates_the_weights_of_each_cell(layer, streams):
    time, view, condition = streams
    stir(layer)
    other = condition.clone()
    other[0, 1, 2] += 1
    changed = layer(time, view, other)[0] != layer(time, view, condition)[0]
    assert changed[0, 1, 2].any()
    changed[0, 1, 2] = False
    assert not changed.any()


def test_soft_can_be_asymmetric(streams):
    time, view, condition = streams
    layer = SoftSynchronisation(WIDTH, 0.3)
    with torch.no_grad():
        layer.update.weight[:WIDTH] = 0  # the time stream keeps what it has
    new_time, new_view = layer(time, view, condition)
    assert torch.equal(new_time, time)
    torch.testing.assert_close(new_view, 0.7 * view + 0.3 * time, rtol=0, atol=1e-6)


def test_any_blocks_make_two_streams():
    """Blocks that add their video's mean over frames: rows get row means, columns column means, then they average."""
    tokens = torch.arange(6.0).reshape(1, 2, 3, 1, 1).expand(1, 2, 3, 1, WIDTH).contiguous()

    def block(x, context):
        return x + context * x.mean(dim=1, keepdim=True)

    time, view = two_streams([block], [HardSynchronisation(WIDTH)], tokens, 1.0, 10.0, torch.zeros(1, 2, 3, WIDTH))
    expected = tokens + (tokens.mean(dim=2, keepdim=True) + 10 * tokens.mean(dim=1, keepdim=True)) / 2
    torch.testing.assert_close(time, expected)
    torch.testing.assert_close(view, expected)
