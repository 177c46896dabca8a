"""Which pixels are drawn, where their rays go, and what a ray sees, each against a plain count or loop."""

import dataclasses

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.recon.nerf.rays import ANYWHERE, Scale, cast
from viewtime.recon.nerf.rendering import Rays, composite
from viewtime.recon.render.splats import Viewpoints


def two_cells() -> torch.Tensor:
    """[1, 2, 4, 40, 60]: an object of 3 × 2 pixels at another place in each cell."""
    images = torch.zeros(1, 2, 4, 40, 60)
    images[0, 0, 3, 10:13, 20:22] = 1
    images[0, 1, 3, 30:33, 50:52] = 1
    return images


def test_pixels_are_drawn_from_the_cells_own_rim_evenly_and_a_share_from_anywhere():
    scale = Scale.of(two_cells(), 40, (40, 60))
    cells = torch.tensor([1, 0])
    drawn = scale.draw(cells, 40_000, torch.Generator().manual_seed(0))
    for row, cell in zip(drawn, cells.tolist()):
        rim = scale.active[scale.start[cell] : scale.start[cell + 1]]
        inside = torch.isin(row, rim)
        elsewhere = ANYWHERE * (1 - len(rim) / 2400)
        assert float(inside.float().mean()) == pytest.approx(1 - elsewhere, abs=0.01)
        counts = (row[:, None] == rim).sum(0).float() / len(row)
        expected = (1 - ANYWHERE) / len(rim) + ANYWHERE / 2400
        assert (counts / expected - 1).abs().max() < 0.25  # the first and the last of the rim as often as the others
        other = row[~inside]
        assert other.min() < 100
        assert other.max() > 2300


def test_a_cell_without_an_object_is_drawn_from_anywhere():
    images = two_cells()
    images[0, 1, 3] = 0
    drawn = Scale.of(images, 40, (40, 60)).draw(torch.tensor([1]), 5000, torch.Generator().manual_seed(0))
    assert float(drawn.float().mean()) == pytest.approx(1200, rel=0.05)


@pytest.mark.parametrize("height", [40, 20, 10])
def test_a_shrunk_pictures_pixels_lie_where_they_were(height):
    scale = Scale.of(two_cells(), height, (40, 60))
    factor = 40 / height
    pixels = torch.tensor([0, scale.size[1] - 1, scale.size[1] * (height - 1)])
    wanted = [[factor / 2, factor / 2], [60 - factor / 2, factor / 2], [factor / 2, 40 - factor / 2]]
    torch.testing.assert_close(scale.place(pixels), torch.tensor(wanted))
    value = scale.values(torch.tensor([0, 0, 0]), pixels)
    assert value.shape == (3, 4)


def test_rays_are_those_of_the_cameras():
    cameras = regular_orbit(3, 2, elevation=20.0)
    cameras = dataclasses.replace(cameras, azimuth=cameras.azimuth + torch.tensor([0.0, 15.0]))
    origins, directions = cameras.rays(8, 12)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")
    place = torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5
    for cell in range(6):
        which = torch.full((len(place),), cell)
        rays = cast(Viewpoints.of(cameras, 8, 12), which, place, which)
        torch.testing.assert_close(rays.origins, origins.reshape(6, 3)[cell].expand(96, 3), rtol=0, atol=1e-5)
        torch.testing.assert_close(rays.directions, directions.reshape(6, 96, 3)[cell], rtol=0, atol=1e-5)


def test_what_a_ray_sees_is_a_loop_over_its_own_valid_samples():
    """NeRF, Eq. 3, in double precision; rays differ in origin, instant, and which of their samples count."""
    generator = torch.Generator().manual_seed(0)
    R, S, step = 5, 7, 0.3
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    directions = torch.nn.functional.normalize(draw(R, 3) - 0.5, dim=1)
    rays = Rays(draw(R, 3), directions, torch.tensor([0, 2, 1, 0, 2]))
    times = draw(R, S).sort(dim=1).values * 3
    valid = draw(R, S) > 0.4
    valid[3] = False

    def field(points, slot):
        density = (points**2).sum(1) + slot
        return density, torch.sigmoid(points + slot[:, None])

    seen = composite(field, rays, times, valid, step)
    assert seen.samples == int(valid.sum())
    for ray in range(R):
        rgb, alpha, depth, light = torch.zeros(3).double(), 0.0, 0.0, 1.0
        for sample in range(S):
            if not valid[ray, sample]:
                continue
            point = rays.origins[ray] + times[ray, sample] * rays.directions[ray]
            density, colour = field(point[None], rays.slot[ray : ray + 1])
            share = light * (1 - torch.exp(-density[0] * step))
            light = light * torch.exp(-density[0] * step)
            rgb, alpha, depth = rgb + share * colour[0], alpha + share, depth + share * times[ray, sample]
        torch.testing.assert_close(seen.rgb[ray], rgb)
        torch.testing.assert_close(seen.alpha[ray], torch.as_tensor(alpha).double())
        torch.testing.assert_close(seen.depth[ray], torch.as_tensor(depth).double())
