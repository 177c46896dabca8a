"""A distillation's pieces without weights: the known scene, its exact denoiser, cameras, instants, regularisers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.pins import assert_pinned
from viewtime.cameras import Cameras, regular_orbit
from viewtime.recon.distill.camera_sampling import (
    CameraRange,
    elevations,
    relative_distance,
    ring,
    ring_azimuths,
    single,
)
from viewtime.recon.distill.fields.background import spherical_harmonics
from viewtime.recon.distill.fields.occupancy import RunningOccupancy
from viewtime.recon.distill.frame_times import interval_times, offset_times, one_of
from viewtime.recon.distill.guidance.analytic import AnalyticGuidance, Knowledge
from viewtime.recon.distill.guidance.base import Kind, SeededDraws
from viewtime.recon.distill.known_scene import KnownGaussians
from viewtime.recon.distill.losses.one_step import color_loss, ddim_steps, latent_loss
from viewtime.recon.distill.losses.regularisers import (
    depth_spread,
    displacement_variation,
    opaqueness,
    orientation,
    sparsity,
)
from viewtime.recon.distill.scalars import Ramp, TimestepRange, open_levels


def test_the_knight_stands_and_walks() -> None:
    knight = KnownGaussians.of()
    for name in ("position", "variance", "colour", "joint", "swing"):
        assert_pinned(f"knight {name}", getattr(knight, name), 1e-5)
    for time in (0.0, 0.25, 0.5, 1.0):
        assert_pinned(f"knight at {time}", knight.at(time), 1e-4)
    torch.testing.assert_close(knight.at(0.0), knight.position)
    arm = (knight.at(0.3) - knight.joint).norm(dim=1)
    torch.testing.assert_close(arm, (knight.position - knight.joint).norm(dim=1), atol=1e-5, rtol=0)
    still = knight.endpoint_error(lambda points, time: torch.zeros_like(points), torch.tensor([0.0, 0.5]))
    assert (still.all, still.moving) == (still.all_still, still.moving_still)
    assert_pinned("still", list(still), 1e-4)
    perfect = knight.endpoint_error(
        lambda points, time: knight.position - knight.at(float(time[0])), torch.tensor([0.25, 0.5])
    )
    assert perfect.all == pytest.approx(0, abs=1e-6)
    assert_pinned("seen", knight(regular_orbit(2, 3), torch.tensor([0.0, 0.4, 0.5]), (16, 20)), 1e-3)


def painted(cameras: Cameras, times: Tensor, size: tuple[int, int]) -> Tensor:
    """A scene that is one grey for every azimuth and instant."""
    shade = 0.5 + 0.4 * torch.deg2rad(cameras.azimuth).sin() * 1.0 + 0.05 * times[None]
    return shade[..., None, None, None].expand(*shade.shape, 4, *size).float()


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO, Kind.MULTI_VIEW])
@pytest.mark.parametrize("camera", ["own", "any", "front"])
def test_what_a_perfect_network_predicts(kind: Kind, camera: str) -> None:
    views, frames = {Kind.IMAGE: (1, 1), Kind.VIDEO: (1, 3), Kind.MULTI_VIEW: (4, 1)}[kind]
    time = "any" if kind is Kind.VIDEO else "own"
    knowledge = Knowledge(camera, time, azimuths=3, instants=2, blur=2)  # type: ignore[arg-type]
    guidance = AnalyticGuidance("known", painted, kind, (4, 4), views=views, frames=frames, knowledge=knowledge)
    cameras = regular_orbit(views, frames, azimuth_start=40.0)
    noisy = torch.randn(1, views, frames, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    steps = torch.full((1, views, frames), 400)
    noise = guidance.predict(noisy, steps, (cameras,), None).conditional
    assert_pinned(f"noise {kind} {camera}", noise, 1e-3)
    if camera != "any" and kind is not Kind.VIDEO:
        a = guidance.traits.schedule.at(torch.tensor([400])).float()
        seen = painted(cameras if camera == "own" else regular_orbit(1, 1), torch.zeros(1), (4, 4))
        torch.testing.assert_close(noise[0], (noisy[0] - a.sqrt() * seen) / (1 - a).sqrt(), atol=1e-4, rtol=1e-4)
    white = guidance.decode(torch.tensor([0.2, 0.3, 0.4, 0.5]).reshape(1, 1, 1, 4, 1, 1))
    assert white.flatten().tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_cameras_of_a_step() -> None:
    bounds = CameraRange((2.0, 3.0), (20.0, 50.0), (-10.0, 40.0), (-60.0, 120.0), relative=True, zoom=(0.8, 1.2))
    for name, made in (
        ("ring", ring(bounds, 3, 4, SeededDraws(1))), ("single", single(bounds, 4, SeededDraws(2))),
        ("plain", single(CameraRange(spread_azimuths=False), 3, SeededDraws(3))),
    ):  # fmt: skip
        numbers = [[*c.elevation.flatten(), *c.azimuth.flatten(), *c.distance.flatten(), c.fov_y] for c in made]
        assert_pinned(name, [float(value) for row in numbers for value in row], 1e-4)
    azimuths = ring_azimuths(torch.tensor([0.0, 0.5]), 4, (-180.0, 180.0))
    assert azimuths.tolist() == [[-180, -90, 0, 90], [-135, -45, 45, 135]]
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert elevations(u, False, (-10.0, 50.0)).tolist() == [-10, 20, 50]
    assert elevations(u, True, (-90.0, 90.0)).tolist() == pytest.approx([-90, 0, 90])
    # Places 0.5 and 1 of the band: the arcsine of 2 · 0.75 - 1.
    assert elevations(u, True, (0.0, 90.0)).tolist() == pytest.approx([0, 30, 90])
    assert float(relative_distance(torch.tensor(2.0), torch.tensor(90.0))) == pytest.approx(2.0)


def test_instants_of_a_step() -> None:
    assert offset_times(0.5, 4).tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert interval_times(0.5, 1.0, 3).tolist() == pytest.approx([0.1, 0.55, 1.0])
    assert one_of(torch.arange(4.0), 0.99).tolist() == [3.0]
    assert one_of(torch.arange(4.0), 0.25).tolist() == [1.0]


def test_numbers_over_a_run() -> None:
    ramp = Ramp(100, 1.0, 3.0, 300)
    assert [ramp.at(step) for step in (0, 100, 200, 300, 900)] == [1, 1, 2, 3, 3]
    assert TimestepRange(0.02, ramp).at(100) == (20, 1000)
    changed = TimestepRange(0.1, 0.9, switch=50, high_after=0.4)
    assert [changed.at(step) for step in (50, 51)] == [(100, 900), (100, 400)]
    assert [open_levels(step, 8) for step in (0, 499, 500, 1999, 2000, 9999)] == [4, 4, 5, 7, 8, 8]
    assert [tuple(step) for step in ddim_steps(900, 2)] == [(900, 400), (400, -100)]
    assert [tuple(step) for step in ddim_steps(500, 4)] == [(500, 250), (250, 0)]


def test_losses_by_hand() -> None:
    made, target = torch.full((2, 3), 0.5, requires_grad=True), torch.full((2, 3), 0.1, requires_grad=True)
    assert float(latent_loss(made, target).detach()) == pytest.approx(0.5 * 6 * 0.16 / 2)
    assert float(color_loss(made, target).detach()) == pytest.approx(6 * 0.16 / 2)
    (color_loss(made, target) + latent_loss(made, target)).backward()
    assert made.grad is not None
    assert made.grad.flatten().tolist() == pytest.approx([0.4 + 0.2] * 6)
    assert target.grad is None
    video = torch.zeros(2, 3, 4, 5, 3)
    video[:, 1] = 2.0
    assert [float(v) for v in displacement_variation(video)] == [2 * 4 * 20 * 3, 0, 0]
    video = torch.zeros(1, 1, 4, 5, 1)
    video[0, 0, 1, 3] = 1.0
    assert [float(v) for v in displacement_variation(video)] == [0, 2, 2]
    assert float(sparsity(torch.tensor([0.0, 1.0]))) == pytest.approx((0.1 + math.sqrt(1.01)) / 2)
    assert float(opaqueness(torch.tensor([0.5]))) == pytest.approx(math.log(2))
    edge = -(0.999 * math.log(0.999) + 0.001 * math.log(0.001))
    assert float(opaqueness(torch.tensor([0.0, 1.0]))) == pytest.approx(edge, rel=1e-3)
    normals = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0.6, 0.8]])
    along = torch.tensor([[0.0, 0, 1]]).expand(3, 3)
    opacity = torch.tensor([0.5, 0.0, 0.1])
    assert float(orientation(torch.tensor([0.2, 9.0, 0.5]), normals, along, opacity)) == pytest.approx(0.26)
    assert float(depth_spread(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([0.6, 0.9, 0.5]))) == 2
    assert float(depth_spread(torch.ones(2), torch.zeros(2))) == 0


def test_harmonics_are_orthonormal_on_the_sphere() -> None:
    count = 4000
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * index / count, math.pi * (1 + 5**0.5) * index
    flat = (1 - z * z).sqrt()
    values = spherical_harmonics(torch.stack([flat * turn.cos(), flat * turn.sin(), z], dim=1))
    torch.testing.assert_close(
        values.T @ values * (4 * math.pi / count), torch.eye(9, dtype=torch.float64), atol=2e-3, rtol=0
    )
    assert_pinned(
        "harmonics", spherical_harmonics(torch.tensor([[0.6, 0.0, 0.8], [0.0, -0.6, 0.8], [0.48, 0.6, 0.64]]))
    )


def test_voxels_are_remembered_and_fade() -> None:
    occupancy = RunningOccupancy(6, 0.1)

    def density(points: Tensor, time: Tensor) -> Tensor:
        return 8 * ((points - time[:, None] * 0.5).norm(dim=1) < 0.5)

    occupancy.update(density, torch.tensor([0.0, 1.0]), 0, SeededDraws(0))
    assert_pinned("first look", occupancy.estimate)
    occupancy.update(lambda points, time: torch.zeros(len(points)), torch.tensor([0.0]), 5, SeededDraws(1))
    assert float(occupancy.estimate.max()) == pytest.approx(0.95 * 0.8)
    occupancy.update(density, torch.tensor([0.5]), 256, SeededDraws(2))
    assert_pinned("later", occupancy.estimate)
    assert_pinned("occupied", occupancy.occupied)
    block = occupancy.block()
    assert (block.low.tolist(), block.side, block.resolution) == ([-1, -1, -1], 2, 6)
    assert occupancy.least == pytest.approx(float(occupancy.estimate.mean()))
