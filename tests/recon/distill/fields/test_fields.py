"""Fields of score distillation: hash fields by hand, the warp's identity, what stays frozen, harmonics, occupancy."""

import math

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.distill_scene import BackgroundOptions, FieldOptions, RenderOptions
from viewtime.recon.distill.density import blob_bias
from viewtime.recon.distill.fields import volume
from viewtime.recon.distill.fields.background import Background, spherical_harmonics
from viewtime.recon.distill.fields.hash_field import HashField
from viewtime.recon.distill.fields.make import make_scene
from viewtime.recon.distill.fields.motion import Displacement
from viewtime.recon.distill.fields.occupancy import RunningOccupancy
from viewtime.recon.distill.fields.scene import Shot, paint, shown
from viewtime.recon.distill.guidance.base import SeededDraws

SMALL = {"levels": 3, "coarsest": 4, "growth": 1.5, "log2_table": 10, "width": 8, "motion_levels": 3}
MOTIONS = ["grid", "offset", "warp"]


def options(**changes) -> FieldOptions:
    return FieldOptions(**{**SMALL, "motion_coarsest": 4, "motion_layers": 1, **changes})


def shot(frames=2, size=12, views=2) -> Shot:
    cameras = regular_orbit(views, frames, elevation=10, distance=2.8, fov_y=35)
    return Shot((cameras,), torch.linspace(0, 0.8, frames, dtype=torch.float64), size, size)


def scene(seed=0, kind="hash", at_once=0, **changes):
    field = options(kind=kind, gaussians=60, **changes)
    render = RenderOptions(samples=40, occupancy=8, at_once=at_once)
    return make_scene(field, BackgroundOptions(layers=1, width=8), render, seed)


def points_and_times(count=50):
    generator = torch.Generator().manual_seed(3)
    return 1.6 * torch.rand(count, 3, generator=generator) - 0.8, torch.rand(count, generator=generator)


def test_features_of_space_and_of_space_and_time_are_added():
    field = HashField(options(motion="grid"))
    field.moving = True
    torch.nn.init.normal_(field.static.table)
    torch.nn.init.normal_(field.dynamic.table)
    points, times = points_and_times()
    unit = (points + 1) / 2
    features = field.static(unit) + field.dynamic(torch.cat([unit, times[:, None]], dim=1))
    raw = field.density_network(features)
    expected = torch.nn.functional.softplus(raw + 10 * (1 - points.norm(dim=1, keepdim=True) / 0.5))[:, 0]
    found = field(points, times)
    torch.testing.assert_close(found.density, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.colour, torch.sigmoid(field.colour_network(features)))
    assert (found.density - field(points, times.flip(0)).density).abs().max() > 1e-3
    field.moving = False
    assert torch.equal(field(points, times).density, field(points, times.flip(0)).density)


@pytest.mark.parametrize("motion", ["offset", "warp"])
def test_no_displacement_is_the_static_field_bit_for_bit(motion):
    torch.manual_seed(1)
    field = HashField(options(motion=motion))
    torch.nn.init.normal_(field.static.table)
    points, times = points_and_times()
    still = field(points, times)
    field.moving = True
    moved = field(points, times)
    assert not torch.equal(still.density, moved.density)
    torch.nn.init.zeros_(field.displacement.network[-1].weight)
    same = field(points, times)
    assert torch.equal(still.density, same.density)
    assert torch.equal(still.colour, same.colour)
    assert not same.displacement.any()


def test_the_warp_enlarges_and_stays_in_the_cube():
    field = HashField(options(motion="warp", enlarge=2.0))
    field.moving = True
    torch.nn.init.zeros_(field.displacement.network[-1].weight)
    points, times = points_and_times()
    bias = blob_bias(points / 2, 0.5)  # half the distance to the centre
    density = field(points, times).density
    torch.testing.assert_close(density, torch.nn.functional.softplus(bias)[:, 0], rtol=1e-3, atol=1e-3)
    outside = field(torch.tensor([[5.0, 0.0, 0.0]]), torch.zeros(1)).density
    assert outside.item() == pytest.approx(math.log1p(math.exp(-10.0)), rel=1e-2)


def test_levels_open_one_after_the_other():
    displacement = Displacement(options(motion_levels=6, first_levels=2, level_every=10), squashed=True)
    torch.nn.init.normal_(displacement.encoding.table)
    points = torch.rand(20, 4)
    seen = []
    for step in (0, 9, 10, 25, 1000):
        displacement.advance(step)
        out = displacement(points).sum()
        grad = torch.autograd.grad(out, displacement.encoding.table)[0]
        levels = displacement.encoding.levels
        touched = [bool(grad[o : o + s].any()) for o, s in zip(levels.offset, levels.size)]
        assert touched == [level < displacement.open for level in range(6)]
        seen.append(displacement.open)
    assert seen == [2, 2, 3, 4, 6]


@pytest.mark.parametrize(("kind", "parts"), [("hash", "rays"), ("gaussians", "rays"), ("hash", "samples")])
def test_rendered_in_parts_gives_the_same_pictures_and_gradients(kind, parts, monkeypatch):
    pictures, gradients = [], []
    for several in (False, True):
        at_once = 200 if several and parts == "rays" else 0
        monkeypatch.setattr(volume, "AT_ONCE", 37 if several and parts == "samples" else volume.AT_ONCE)
        made = scene(kind=kind, at_once=at_once, motion="warp")
        made.moving = True
        made.look_around(0, SeededDraws(5))
        plan = made.plan(shot(), SeededDraws(1))
        assert (plan.parts > 1) == bool(at_once)
        pixels, send = paint(made, plan)
        seen = shown(pixels, plan.shot)
        (seen.rendered.color.square().sum() + seen.displacement.square().sum() + seen.rendered.opacity.sum()).backward()
        send()
        pictures.append(pixels.detach())
        gradients.append({name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None})
    torch.testing.assert_close(pictures[0], pictures[1])
    assert set(gradients[0]) == set(gradients[1])
    assert len(gradients[0]) >= 5
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_a_rendered_displacement_is_opacity_times_displacement():
    made = scene(motion="offset")
    made.moving = True
    made.look_around(0, SeededDraws(5))
    torch.nn.init.zeros_(made.field.displacement.network[-1].weight)
    with torch.no_grad():
        made.field.displacement.forward = lambda points: torch.tensor([0.1, -0.2, 0.05]).expand(len(points), 3)
        plan = made.plan(shot(), SeededDraws(1))
        seen = shown(paint(made, plan)[0], plan.shot)
    opacity = seen.rendered.opacity[:, :, :, 0, ..., None]
    assert opacity.max() > 0.3
    torch.testing.assert_close(seen.displacement, opacity * torch.tensor([0.1, -0.2, 0.05]), rtol=1e-4, atol=1e-5)


def test_pictures_lie_over_the_background_and_the_random_colour_covers_it():
    made = scene(motion="grid")
    made.look_around(0, SeededDraws(5))
    plain = made.plan(shot(), SeededDraws(1), training=False)
    pixels = paint(made, plain)[0]
    seen = shown(pixels, plain.shot).rendered
    directions = plain.shot.directions()
    behind = made.background(directions.flatten(0, 4)).unflatten(0, directions.shape[:5]).movedim(-1, 3)
    torch.testing.assert_close(seen.color, seen.foreground + (1 - seen.opacity) * behind)
    torch.testing.assert_close(seen.on_white(), seen.foreground + 1 - seen.opacity)
    background = Background(BackgroundOptions(random=1.0, per_frame=True))
    colours = background.replacement(5, SeededDraws(0))
    assert len(colours.unique(dim=0)) == 5
    assert len(Background(BackgroundOptions(random=1.0)).replacement(5, SeededDraws(0)).unique(dim=0)) == 1
    assert Background(BackgroundOptions(random=0.0)).replacement(5, SeededDraws(0)).isnan().all()


def test_harmonics_are_orthonormal_on_the_sphere():
    count = 20000
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * index / count, math.pi * (1 + 5**0.5) * index
    flat = (1 - z**2).sqrt()
    basis = spherical_harmonics(torch.stack([flat * turn.cos(), flat * turn.sin(), z], dim=1))
    gram = 4 * math.pi / count * basis.T @ basis
    torch.testing.assert_close(gram, torch.eye(9, dtype=torch.float64), atol=1e-3, rtol=0)


def test_occupancy_keeps_what_was_dense_at_any_instant_and_forgets_slowly():
    occupancy, draws = RunningOccupancy(16, step=0.05), SeededDraws(0)

    def moving_ball(points, times):
        centre = torch.stack([times - 0.5, torch.zeros_like(times), torch.zeros_like(times)], dim=1)
        return 20.0 * ((points - centre).norm(dim=1) < 0.3)

    occupancy.update(moving_ball, torch.tensor([0.0, 1.0]), 0, draws)
    grid = occupancy.block().occupied[0]
    # x fastest: the ball at x = -0.5 and +0.5, y = z = 0
    assert [int(grid[8, 8, x]) for x in (4, 8, 11, 15)] == [1, 0, 1, 0]
    assert occupancy.estimate.max().item() == pytest.approx(1.0)
    occupancy.update(lambda points, times: torch.zeros(len(points)), torch.zeros(1), 1, draws)
    assert occupancy.estimate.max().item() == pytest.approx(0.95)
    for step in range(150):
        occupancy.update(lambda points, times: torch.zeros(len(points)), torch.zeros(1), step, draws)
    assert occupancy.estimate.max() < 1e-3


def test_thin_samples_change_the_picture_little_and_save_many():
    made = scene(motion="grid")
    for step in range(0, 33, 16):
        made.look_around(step, SeededDraws(step))
    pictures, counts = [], []
    for thin in (0.0, 0.01):
        made.options = RenderOptions(samples=40, occupancy=8, thin=thin)
        plan = made.plan(shot(), SeededDraws(1), training=False)
        with torch.no_grad():
            pictures.append(paint(made, plan)[0][:, 3])
        counts.append(made.samples)
    assert counts[1] < 0.8 * counts[0]
    assert (pictures[0] - pictures[1]).abs().max() < 0.1
