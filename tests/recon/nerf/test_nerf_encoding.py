"""Grid encoding: hand-made trilinear interpolation, the hash, and the compiled encoder in value and gradient."""

import pytest
import torch

from viewtime.recon.nerf.encoding import SOURCE, encode
from viewtime.recon.nerf.levels import Levels, encode_reference
from viewtime.recon.render.compiled import load_library

needs_compiler = pytest.mark.skipif(load_library(SOURCE) is None, reason="no C++ compiler on this machine")


def points_and_table(levels, channels=2, slots=None, count=200):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    shape = (levels.entries, channels) if slots is None else (slots, levels.entries, channels)
    return points, torch.randn(shape, generator=generator, dtype=torch.float64)


def by_hand(point, value, resolution):
    """Trilinear interpolation of a function of the vertex, corner by corner."""
    place = [coordinate * (resolution - 1) for coordinate in point.tolist()]
    cell = [min(int(p), resolution - 2) for p in place]
    total = torch.zeros(())
    for corner in range(8):
        bits = [corner & 1, corner >> 1 & 1, corner >> 2 & 1]
        weight = 1.0
        for p, c, b in zip(place, cell, bits):
            weight *= (p - c) if b else 1 - (p - c)
        total = total + weight * value(*[c + b for c, b in zip(cell, bits)])
    return total


def test_levels_are_dense_where_they_fit():
    levels = Levels.geometric(4, 8, 64, 20000)
    assert levels.resolution == (8, 16, 32, 64)
    assert levels.hashed == (False, False, True, True)
    assert levels.size == (512, 4096, 16384, 16384)
    assert levels.offset == (0, 512, 4608, 20992)


def test_dense_and_hashed_levels_interpolate_the_vertices():
    levels = Levels.of([5, 40], 4096)
    points, table = points_and_table(levels, count=30)
    features = encode_reference(points, table, levels)

    def dense(x, y, z):
        return table[x + 5 * (y + 5 * z)]

    def hashed(x, y, z):
        key = (x ^ (y * 2654435761 & 0xFFFFFFFF) ^ (z * 805459861 & 0xFFFFFFFF)) % 4096
        return table[125 + key]

    for point, feature in zip(points, features):
        torch.testing.assert_close(feature[:2], by_hand(point, dense, 5))
        torch.testing.assert_close(feature[2:], by_hand(point, hashed, 40))


def test_a_linear_function_is_reproduced_and_the_outside_is_the_boundary():
    levels = Levels.of([6], 1000)
    axis = torch.linspace(0, 1, 6, dtype=torch.float64)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = (2 * x - 3 * y + 0.5 * z).reshape(-1, 1)
    points = torch.tensor([[0.2, 0.7, 0.93], [1.0, 1.0, 1.0], [1.7, -0.4, 0.5]], dtype=torch.float64)
    expected = torch.tensor([2 * 0.2 - 3 * 0.7 + 0.5 * 0.93, -0.5, 2.25], dtype=torch.float64)
    torch.testing.assert_close(encode(points, table, levels)[:, 0], expected)


@needs_compiler
@pytest.mark.parametrize("slots", [None, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_compiled_equals_reference_in_value_and_gradient(channels, slots):
    levels = Levels.of([4, 9, 33], 2000)
    points, table = points_and_table(levels, channels, slots)
    points = points * 1.1 - 0.05
    slot = None if slots is None else torch.randint(0, slots, (len(points),))
    results = []
    for function in (encode, encode_reference):
        p, t = points.clone().requires_grad_(), table.clone().requires_grad_()
        out = function(p, t, levels, slot)
        results.append((out, *torch.autograd.grad((out * torch.cos(out)).sum(), [p, t])))
    for fast, slow in zip(*results):
        assert slow.abs().max() > 0.1
        torch.testing.assert_close(fast, slow)


@needs_compiler
def test_single_precision_follows_double():
    levels = Levels.geometric(6, 4, 60, 5000)
    points, table = points_and_table(levels)
    exact = encode_reference(points, table, levels)
    torch.testing.assert_close(encode(points.float(), table.float(), levels).double(), exact, atol=3e-5, rtol=0)


def test_gradients_against_finite_differences():
    levels = Levels.of([3, 5], 200)
    points, table = points_and_table(levels, 2, count=5)
    inputs = (points.requires_grad_(), table.requires_grad_())
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, levels), inputs)


def test_a_table_of_another_size_is_refused():
    levels = Levels.of([4], 100)
    with pytest.raises(ValueError, match="do not fit"):
        encode(torch.rand(3, 3), torch.zeros(63, 2), levels)
