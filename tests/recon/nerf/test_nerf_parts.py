"""Pieces of a NeRF's step at fixed numbers: rays, voxels, losses, fields; by hand where that is short, else pins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import training_grid

from tests.pins import assert_pinned
from viewtime.configs.schema.reconstruct_nerf import NerfLossWeights, NerfOptions
from viewtime.errors import UserError
from viewtime.images import write_image
from viewtime.recon.fitting.hull import Hull, cube_votes, sample_masks, voting_hull
from viewtime.recon.fitting.points import farthest_points, points_in_hull
from viewtime.recon.fitting.targets import Targets, make_targets
from viewtime.recon.nerf.deformation import GridDeformation, MlpDeformation
from viewtime.recon.nerf.field import DynamicField
from viewtime.recon.nerf.levels import Levels
from viewtime.recon.nerf.losses import Batch, Losses, depth_normals, sobel
from viewtime.recon.nerf.occupancy import Occupancy, dissent, lattice, widen
from viewtime.recon.nerf.rays import make_scales
from viewtime.recon.nerf.rendering import RayPicture

V, F, SIZE = 4, 3, 32


@pytest.fixture(scope="module")
def targets() -> Targets:
    return make_targets(training_grid(V, F, SIZE))


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_scales_and_what_is_drawn_from_them(targets: Targets) -> None:
    scales = make_scales(targets, 9)
    assert [(scale.size, scale.images.shape[1]) for scale in scales] == [
        ((9, 9), 1), ((18, 18), 1), ((32, 32), 1), ((32, 32), 3)
    ]  # fmt: skip
    for number, scale in enumerate(scales):
        cells = torch.tensor([0, 3, 2])
        generator = torch.Generator().manual_seed(number)
        pixels = scale.draw(cells, 40, generator)
        assert_pinned(f"drawn {number}", pixels)
        patches = scale.patches(cells, 7, generator)
        assert_pinned(f"patches {number}", patches)
        assert (patches[:, :, 1:] - patches[:, :, :-1] == 1).all()
        assert (patches[:, 1:] - patches[:, :-1] == scale.size[1]).all()
        assert_pinned(f"seen {number}", scale.values(cells[:, None].expand(3, 40), pixels), 1e-4)
        assert_pinned(f"places {number}", scale.place(pixels), 1e-4)


def test_voxels_of_the_masks(targets: Targets) -> None:
    occupancy = Occupancy.of(targets, 30, 1.0)
    assert occupancy.tolerance == 0
    assert_pinned("cube", [*occupancy.block.low.tolist(), occupancy.block.side], 1e-4)
    assert_pinned("possible", occupancy.possible, 3e-2)
    assert occupancy.coverage(targets) > 0.99
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        occupancy.update(lambda points, frame: 3 - 8 * points.norm(dim=1) + frame, range(1, 3), generator)
    assert_pinned("occupied", occupancy.block.occupied, 3e-2)
    assert_pinned("density", occupancy.block.density, 3e-2)
    assert not occupancy.block.occupied[0].bool().ne(occupancy.possible[0]).any(), "not looked at"
    again = Occupancy(occupancy.possible, occupancy.block.low, occupancy.block.side, 0)
    again.restore(occupancy.state())
    assert torch.equal(again.block.density, occupancy.block.density)


def test_masks_grow_and_points_are_judged(targets: Targets) -> None:
    dot = torch.zeros(1, 9, 9)
    dot[0, 4, 4] = 1
    assert [int(widen(dot, pixels).sum()) for pixels in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.2)] == [1, 1, 9, 9, 25, 49]
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [50.0, 0.0, 0.0]])
    usable = torch.arange(V) * F
    against, seen = dissent(points, targets.images[:, 0, 3], targets.views[usable])
    assert against[0] == 0
    assert seen.tolist()[0] == V
    assert against[1] == seen[1] > 0
    places = lattice(torch.tensor([-1.0, 0.0, 1.0]), 2.0, 2)
    assert places.tolist()[:3] == [[-0.5, 0.5, 1.5], [0.5, 0.5, 1.5], [-0.5, 1.5, 1.5]]
    assert places.tolist()[-1] == [0.5, 1.5, 2.5]
    values = sample_masks(dot, torch.tensor([[[4.5, 4.5], [5.0, 4.5], [5.0, 5.0], [-5.0, 4.5]]]))
    assert values[0].tolist() == pytest.approx([1.0, 0.5, 0.25, 0.0])


def test_a_hull_and_the_points_in_it(targets: Targets) -> None:
    masks, views = targets.images[:, 1, 3], targets.views[torch.arange(V) * F + 1]
    votes = cube_votes(masks, views, 0.6, 12)
    assert_pinned("votes", votes, 3e-2)
    hull = voting_hull(masks, views, targets.reach, 40)
    assert hull.tolerance == 0
    assert_pinned("hull", hull.inside, 3e-2)
    assert_pinned("hull place", [*hull.origin.tolist(), hull.spacing, hull.coverage], 1e-3)
    points = points_in_hull(hull, 200, torch.Generator().manual_seed(0))
    assert_pinned("points", points, 1e-3)
    surface = hull.surface().sum()
    assert 0 < surface < hull.inside.sum()
    block = Hull(torch.ones(3, 4, 5, dtype=torch.bool), torch.zeros(3), 0.5, 0, 1.0)
    assert int((~block.surface()).sum()) == 1 * 2 * 3
    assert block.points(block.inside)[-1].tolist() == [1.0, 1.5, 2.0]
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [10, 0, 0]])
    assert farthest_points(line, 3).tolist() == [3, 4, 0]
    assert len(farthest_points(line, 9)) == 5


def test_a_wrong_view_is_outvoted(targets: Targets) -> None:
    grid = training_grid(6, 1, SIZE)
    wrong = make_targets(grid)
    masks = wrong.images[:, 0, 3].clone()
    masks[2] = masks[2].roll(12, dims=1)
    hull = voting_hull(masks, wrong.views, wrong.reach, 40)
    assert hull.tolerance == 1
    assert hull.coverage > 0.7
    with pytest.raises(UserError, match=r"no volume in common|no voxel is object"):
        voting_hull(torch.stack([m.roll(9 * n, dims=0) for n, m in enumerate(masks)]) * 0, wrong.views, wrong.reach, 40)


def batch(targets: Targets) -> tuple[Batch, RayPicture]:
    """Two cells: ten rays, then a square of 5 × 5 rays of each."""
    y, x = torch.meshgrid(torch.arange(5.0) + 13.5, torch.arange(5.0) + 12.5, indexing="ij")
    square = torch.stack([x, y], dim=-1).reshape(-1, 2)
    place = torch.cat([numbers(10, 2) * 30, square, square + 1])
    which = torch.cat([torch.arange(10) % 2, torch.zeros(25), torch.ones(25)]).long()
    cells = torch.tensor([1, 7])
    target = targets.images[cells[which] // F, cells[which] % F, :, place[:, 1].long(), place[:, 0].long()]
    alpha = 0.5 + 0.5 * numbers(60, seed=1)
    picture = RayPicture(numbers(60, 3, seed=2) * alpha[:, None], alpha, (1.5 + 0.2 * numbers(60, seed=3)) * alpha, 99)
    return Batch(cells, which, place, target, torch.zeros(2).long(), 2, 5, 1.0), picture


def test_losses_of_a_step(targets: Targets, tmp_path) -> None:
    rays, picture = batch(targets)
    colour = picture.rgb + 1 - picture.alpha[:, None]
    square = (colour - rays.target[:, :3]).square()
    mask = (picture.alpha - rays.target[:, 3]).square().mean()
    views = targets.views[rays.cells]

    def total(robust: bool = False, **weights: float) -> float:
        options = NerfOptions(
            weights=NerfLossWeights(mse=0.0, mask=0.0, **weights), patches_per_step=2, normals=tmp_path
        )
        return float(Losses(options, robust, targets, None)(picture, rays, views)[0])

    plain = Losses(NerfOptions(weights=NerfLossWeights(mse=2.0, mask=3.0)), False, targets, None)
    loss, error = plain(picture, rays, views)
    assert float(loss) == pytest.approx(float(2 * square.mean() + 3 * mask), rel=1e-5)
    assert float(error) == pytest.approx(float(square.mean()), rel=1e-5)
    robust = Losses(NerfOptions(weights=NerfLossWeights(mse=1.0, mask=0.0)), True, targets, None)
    wanted = (0.1 * ((1 + square / 0.01).sqrt() - 1)).mean()
    assert float(robust(picture, rays, views)[0]) == pytest.approx(float(wanted), rel=1e-5)
    for view in range(V):
        for frame in range(F):
            shades = np.full((SIZE, SIZE, 3), [0.6, 0.3, 0.9]) + 0.01 * view
            write_image(tmp_path / f"view_{view:03d}" / f"frame_{frame:03d}.png", shades)
    assert_pinned("depth loss", [total(depth=1.0)], 1e-3)
    assert_pinned("bilateral loss", [total(bilateral=1.0)], 1e-3)
    assert_pinned("normal loss", [total(normal=1.0)], 1e-3)
    assert total(depth=2.0, bilateral=3.0) == pytest.approx(2 * total(depth=1.0) + 3 * total(bilateral=1.0), rel=1e-4)
    assert_pinned("normals", depth_normals(1 + numbers(1, 1, 4, 5), numbers(1, 3, 4, 5) + 0.5), 1e-3)
    assert_pinned("gradient", sobel(numbers(2, 3, 4, 5)), 1e-4)


def test_deformations() -> None:
    points, slot = numbers(30, 3), torch.arange(30) % 2
    grids = GridDeformation(4, (3, 5), 2.0, 0.5)
    mlp = MlpDeformation(4, 12, 2, 2, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for model in (grids, mlp):
            for parameter in model.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    for share in (0.0, 0.2, 0.4, 1.0):
        mlp.anneal(share)
        grids.anneal(share)
        assert_pinned(f"mlp {share}", mlp.at(torch.tensor([0.0, 2.5]))(points, slot).detach(), 1e-4)
        assert_pinned(f"window {share}", mlp.window(), 1e-4)
        assert grids.stiffness == pytest.approx({0.0: 10.0, 0.2: 6.4, 0.4: 2.8, 1.0: 1.0}[share])
    assert_pinned("grids", grids.at(torch.tensor([0.0, 2.5]))(points, slot).detach(), 1e-4)
    smooth, still = (GridDeformation(4, (3, 5), *weights) for weights in ((1.0, 0.0), (0.0, 1.0)))
    for model in (smooth, still):
        model.load_state_dict(grids.state_dict())
    for frames in ([0], [1, 2], [3]):
        parts = [float(model.regulariser(frames).detach()) for model in (smooth, still)]
        assert_pinned(f"pull {frames}", parts, 1e-4)
        grids.anneal(0.2)
        assert float(grids.regulariser(frames).detach()) == pytest.approx(
            2.0 * parts[0] + 0.5 * 6.4 * parts[1], rel=1e-4
        )


def test_a_field_at_rest_and_in_motion() -> None:
    torch.manual_seed(0)
    options = NerfOptions(
        levels=3, features=2, coarsest_resolution=4, finest_resolution=9, log2_table=7, width=8,
        remainder_features=2, remainder_resolution=5, remainder_log2_table=6,
    )  # fmt: skip
    field = DynamicField(options, 3, torch.tensor([-0.5, -0.4, -0.3]), 1.2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    points = numbers(40, 3) - 0.3
    for moving in (False, True):
        field.moving = moving
        density, colour = field.at(torch.tensor([0.0, 1.5]))(points, torch.arange(40) % 2)
        assert_pinned(f"density {moving}", density.detach(), 1e-3)
        assert_pinned(f"colour {moving}", colour.detach(), 1e-3)


def test_levels_of_published_fields() -> None:
    levels = Levels.tiny_cuda_nn(4, 16, 1.5, 13, 3)
    # Cells 15, 23, 35, 53; dense while (cells + 1)³, rounded up to eight, fits 8192.
    assert levels.resolution == (16, 24, 36, 54)
    assert levels.size == (4096, 8192, 8192, 8192)
    assert levels.hashed == (False, True, True, True)
    assert levels.offset == (0, 4096, 12288, 20480)
    assert levels.scale == (15.0, 23.0, 35.0, 53.0)
    assert (levels.shift, levels.dimensions, levels.entries, len(levels)) == (0.5, 3, 28672, 4)
    odd = Levels.tiny_cuda_nn(1, 3, 2.0, 13, 3)
    assert (odd.resolution, odd.size) == ((3,), (32,))  # 27 entries, in eights
    ours = Levels.geometric(3, 4, 16, 500)
    assert (ours.resolution, ours.size, ours.hashed) == ((4, 8, 16), (64, 256, 256), (False, True, True))
    assert ours.numbers().tolist() == [[4, 0, 64, 0], [8, 64, 256, 1], [16, 320, 256, 1]]
    assert Levels.of([8], 512).hashed == (False,)
