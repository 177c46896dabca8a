"""The grid over space and time, laid out as tiny-cuda-nn does: by hand, and compiled against plain torch."""

import itertools

import pytest
import torch

from viewtime.recon.nerf.encoding import SOURCE, encode
from viewtime.recon.nerf.levels import Levels, encode_reference
from viewtime.recon.render.compiled import load_library

needs_compiler = pytest.mark.skipif(load_library(SOURCE) is None, reason="no C++ compiler on this machine")
GROWTH = 1.447269237440378


def test_the_published_grids():
    static = Levels.tiny_cuda_nn(16, 16, GROWTH, 19)
    assert (static.resolution[0], static.resolution[-1]) == (16, 4096)
    assert static.size[:2] == (4096, 13824)  # 24³ after 16³
    assert static.hashed == (False,) * 5 + (True,) * 11
    motion = Levels.tiny_cuda_nn(12, 4, GROWTH, 19, dimensions=4)
    assert motion.resolution[0] == 4
    assert 232 < motion.scale[-1] < 233
    assert motion.size[:2] == (256, 1296)  # 4⁴, 6⁴
    assert motion.hashed == tuple(r**4 > 1 << 19 for r in motion.resolution)


@pytest.mark.parametrize("log2_table", [14, 8])  # dense, hashed
def test_one_level_by_hand(log2_table):
    levels = Levels.tiny_cuda_nn(1, 10, 1.5, log2_table, dimensions=4)
    assert levels.hashed == (log2_table == 8,)
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(levels.entries, 1, generator=generator, dtype=torch.float64)
    points = torch.rand(20, 4, generator=generator, dtype=torch.float64)
    primes = (1, 2654435761, 805459861, 3674653429)
    for point, found in zip(points, encode_reference(points, table, levels)):
        place = [x * 9 + 0.5 for x in point.tolist()]
        total = 0.0
        for bits in itertools.product((0, 1), repeat=4):
            vertex = [int(p) + b for p, b in zip(place, bits)]
            weight = 1.0
            for p, b in zip(place, bits):
                weight *= p - int(p) if b else 1 - (p - int(p))
            if levels.hashed[0]:
                entry = 0
                for v, prime in zip(vertex, primes):
                    entry ^= v * prime % 2**32
                entry %= 256
            else:
                entry = sum(v * 10**d for d, v in enumerate(vertex)) % 10000
            total += weight * table[entry, 0].item()
        assert found.item() == pytest.approx(total, abs=1e-12)


@needs_compiler
@pytest.mark.parametrize("dimensions", [3, 4])
def test_compiled_equals_reference_in_value_and_gradient(dimensions):
    levels = Levels.tiny_cuda_nn(5, 4, GROWTH, 9, dimensions)
    assert set(levels.hashed) == {False, True}
    generator = torch.Generator().manual_seed(0)
    points = 1.1 * torch.rand(300, dimensions, generator=generator, dtype=torch.float64) - 0.05
    table = torch.randn(levels.entries, 2, generator=generator, dtype=torch.float64)
    results = []
    for function in (encode, encode_reference):
        p, t = points.clone().requires_grad_(), table.clone().requires_grad_()
        out = function(p, t, levels)
        results.append((out, *torch.autograd.grad((out * torch.cos(out)).sum(), [p, t])))
    for fast, slow in zip(*results):
        assert slow.abs().max() > 0.1
        torch.testing.assert_close(fast, slow)


@needs_compiler
def test_gradients_against_finite_differences():
    levels = Levels.tiny_cuda_nn(2, 3, 1.6, 6, dimensions=4)
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(levels.entries, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, levels), (points, table))


def test_points_of_another_dimension_are_refused():
    levels = Levels.tiny_cuda_nn(2, 4, 1.5, 10, dimensions=4)
    with pytest.raises(ValueError, match="4 dimensions"):
        encode(torch.rand(3, 3), torch.zeros(levels.entries, 2), levels)
