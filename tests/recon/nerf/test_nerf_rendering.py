"""Rays, marching and volume rendering against analytic answers."""

import math

import pytest
import torch
from scenes import training_grid

from viewtime.cameras import regular_orbit
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.nerf.encoding import SOURCE
from viewtime.recon.nerf.marching import OPAQUE, Block, march_compiled, march_reference
from viewtime.recon.nerf.occupancy import Occupancy, lattice
from viewtime.recon.nerf.rays import Scale, cast
from viewtime.recon.nerf.rendering import Rays, render_rays, volume_weights
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.splats import Viewpoints

needs_compiler = pytest.mark.skipif(load_library(SOURCE) is None, reason="no C++ compiler on this machine")


def full_block(slots=1, resolution=8):
    shape = (slots, resolution, resolution, resolution)
    return Block(torch.ones(shape, dtype=torch.uint8), torch.zeros(shape), torch.full((3,), -0.5), 1.0)


def test_weights_of_a_slab_of_constant_density():
    """σ over a length L in S steps: sample i has weight e^(−σ i L/S) (1 − e^(−σ L/S))."""
    sigma, length, steps = 3.0, 0.8, 10
    optical = torch.full((1, steps), sigma * length / steps, dtype=torch.float64)
    weights = volume_weights(optical)
    per_step = sigma * length / steps
    expected = [math.exp(-i * per_step) * (1 - math.exp(-per_step)) for i in range(steps)]
    torch.testing.assert_close(weights[0], torch.tensor(expected, dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(1 - math.exp(-sigma * length), rel=1e-12)


def test_weights_in_gradient():
    optical = torch.rand(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(volume_weights, [optical])


def test_a_rendered_slab_has_the_analytic_opacity_colour_and_depth():
    """A ray along +x through the cube: colour 0.25 in the near half and 0.75 in the far half."""
    sigma = 2.0

    def field(points, slot):
        paint = torch.where(points[:, :1] < 0, 0.25, 0.75).expand(-1, 3)
        return torch.full((len(points),), sigma), paint

    rays = Rays(torch.tensor([[-2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1, dtype=torch.long))
    picture = render_rays(
        field, full_block(), torch.zeros(1, dtype=torch.long), rays, torch.full((1,), 0.5), 1e-3, 2000
    )
    half = 1 - math.exp(-sigma * 0.5)
    assert picture.samples == 1000
    assert float(picture.alpha) == pytest.approx(1 - math.exp(-sigma), abs=1e-4)
    assert float(picture.rgb[0, 0]) == pytest.approx(0.25 * half + 0.75 * math.exp(-1.0) * half, abs=1e-3)
    # ∫ (1.5 + s) σ e^(−σ s) ds over [0, 1]
    depth = 1.5 * (1 - math.exp(-2)) + (1 - 3 * math.exp(-2)) / 2
    assert float(picture.depth) == pytest.approx(depth, abs=1e-3)


def test_each_ray_sees_the_voxels_of_its_own_instant():
    block = full_block(slots=3)
    block.occupied[1] = 0

    def field(points, slot):
        return torch.full((len(points),), 100.0), torch.ones(len(points), 3)

    rays = Rays(
        torch.tensor([[-2.0, 0.0, 0.0]]).expand(2, 3),
        torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3),
        torch.tensor([0, 1]),
    )
    picture = render_rays(field, block, torch.tensor([2, 1]), rays, torch.zeros(2), 0.01, 200)
    assert float(picture.alpha[0]) > 0.99
    assert float(picture.alpha[1]) == 0


def random_block():
    generator = torch.Generator().manual_seed(2)
    occupied = (torch.rand(2, 12, 12, 12, generator=generator) < 0.4).to(torch.uint8)
    density = 60 * torch.rand(2, 12, 12, 12, generator=generator) * occupied
    return Block(occupied, density, torch.tensor([-0.4, -0.5, -0.3]), 0.9)


def camera_rays():
    views = Viewpoints.of(regular_orbit(4, 1, elevation=20.0), 24, 24)
    pixel = torch.arange(4 * 576)
    place = torch.stack([pixel % 24 + 0.5, pixel // 24 % 24 + 0.5], dim=-1)
    return cast(views, pixel // 576, place, pixel % 2)


@needs_compiler
@pytest.mark.parametrize("most", [4, 200])
def test_compiled_marching_equals_the_reference(most):
    rays, block = camera_rays(), random_block()
    jitter = torch.rand(len(rays), generator=torch.Generator().manual_seed(0))
    arguments = (block, rays.origins, rays.directions, rays.slot, jitter, 0.013, most)
    (fast, kept), (slow, wanted) = march_compiled(*arguments), march_reference(*arguments)
    width = max(kept.shape[1], wanted.shape[1])
    kept, wanted = (torch.nn.functional.pad(x.int(), (0, width - x.shape[1])).sum(1) for x in (kept, wanted))
    assert int(wanted.max()) > 3
    same = kept == wanted
    assert float(same.float().mean()) > 0.99  # a sample on the border of a voxel may fall to either side
    for ray in same.nonzero().flatten()[::37].tolist():
        count = int(kept[ray])
        torch.testing.assert_close(fast[ray, :count], slow[ray, :count], atol=2e-3, rtol=0)


def test_marching_stops_where_the_known_density_is_opaque():
    block = full_block()
    block.density.fill_(OPAQUE / 0.2)
    times, valid = march_reference(
        block, torch.tensor([[-2.0, 0.01, 0.01]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1, dtype=torch.long),
        torch.zeros(1), 0.01, 500,
    )  # fmt: skip
    assert int(valid.sum()) == pytest.approx(20, abs=1)
    assert float(times[valid].min()) == pytest.approx(1.5, abs=1e-5)


def test_rays_are_those_of_the_cameras():
    cameras = regular_orbit(3, 1, elevation=25.0)
    origins, directions = cameras.rays(6, 8)
    views = Viewpoints.of(cameras, 6, 8)
    pixel = torch.arange(48)
    place = torch.stack([pixel % 8 + 0.5, pixel // 8 + 0.5], dim=-1)
    rays = cast(views, torch.full((48,), 2), place, torch.zeros(48, dtype=torch.long))
    torch.testing.assert_close(rays.origins[0], origins[2, 0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rays.directions, directions[2, 0].reshape(-1, 3), atol=1e-6, rtol=1e-5)


def test_pictures_shrink_by_area_and_keep_their_rays():
    targets = make_targets(training_grid(2, 1, 48))
    small = Scale.of(targets.images, 12, (48, 48))
    assert small.size == (12, 12)
    block = targets.images[1, 0, :, 20:24, 28:32].mean(dim=(1, 2))
    torch.testing.assert_close(small.values(torch.tensor([1]), torch.tensor([5 * 12 + 7]))[0], block)
    torch.testing.assert_close(small.place(torch.tensor([5 * 12 + 7]))[0], torch.tensor([30.0, 22.0]))


def test_rays_fall_on_the_object_and_its_rim():
    targets = make_targets(training_grid(2, 1, 48))
    full = Scale.of(targets.images, 48, (48, 48))
    cells = torch.tensor([0, 1])[:, None].expand(2, 500)
    pixels = full.draw(torch.tensor([0, 1]), 500, torch.Generator().manual_seed(0))
    share = float((full.values(cells, pixels)[..., 3] > 0).float().mean())
    assert 3 * float((targets.images[:, :, 3] > 0).float().mean()) < share < 0.9
    squares = full.patches(torch.tensor([1]), 8, torch.Generator().manual_seed(0))
    assert squares.shape == (1, 8, 8)
    assert int(squares[0, 1, 0] - squares[0, 0, 0]) == 48
    assert int(squares[0, 0, 1] - squares[0, 0, 0]) == 1


def test_the_vote_keeps_the_object_and_drops_most_of_the_rest():
    grid = training_grid(6, 2, 48)
    occupancy = Occupancy.of(make_targets(grid), 48, 1.0)
    points = lattice(occupancy.block.low, occupancy.block.side, 48)
    body = ((points / torch.tensor([0.16, 0.34, 0.16])) ** 2).sum(1) < 0.98
    kept = occupancy.possible[0].flatten()
    assert bool(kept[body].all())
    assert float(kept.float().mean()) < 0.25
    assert occupancy.tolerance == 0
    before = int(occupancy.block.occupied.sum())
    occupancy.update(lambda p, f: 50.0 * (p[:, 2] > 0), range(2), torch.Generator().manual_seed(0))
    assert int(occupancy.block.occupied.sum()) < 0.8 * before
    assert not bool((occupancy.block.occupied.bool() & ~occupancy.possible).any())
    assert 0 < float(occupancy.block.density.max()) <= 50
