"""What the losses must give where the best denoiser is known in closed form: data that is one point, or a Gaussian."""

import pytest
import torch
from golden_parts import GivenLatents, StoredDraws, blank

from viewtime.errors import UserError
from viewtime.recon.distill.guidance.base import Kind, NoisePrediction, SeededDraws, Traits
from viewtime.recon.distill.losses.guided import add_noise, guided, noise_from_velocity, per_entry
from viewtime.recon.distill.losses.reconstruction import (
    reconstruction_loss,
    reconstruction_target,
    timestep_weight_of_reconstruction,
)
from viewtime.recon.distill.losses.regularisers import (
    displacement_variation,
    opaqueness,
    orientation,
    sparsity,
)
from viewtime.recon.distill.losses.sds import sds_gradient, sds_loss, timestep_weight
from viewtime.recon.distill.losses.vsd import copy_loss, copy_target, vsd_gradient, vsd_loss
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.objectives import OneStep, Sds, Vsd
from viewtime.recon.distill.scalars import TimestepRange
from viewtime.recon.distill.teacher import Teacher

SCHEDULE = scaled_linear_schedule()
A = SCHEDULE.at(torch.tensor([100, 500, 900]))
POINT_C, POINT_U = 0.7, -0.4


def example(n=3, *shape):
    torch.manual_seed(3)
    return torch.randn(n, *(shape or (4, 5)), dtype=torch.float64), torch.randn(
        n, *(shape or (4, 5)), dtype=torch.float64
    )


def point_noise(noisy, point, a):
    """The noise that the best denoiser of data at one point sees."""
    a = per_entry(a, noisy)
    return (noisy - a.sqrt() * point) / (1 - a).sqrt()


def test_sds_of_a_point_does_not_depend_on_the_noise():
    x, noise = example()
    noisy = add_noise(x, noise, A)
    e = point_noise(noisy, POINT_C, A)
    gradient = sds_gradient(e, e, noise, A, scale=100.0)
    a = per_entry(A, x)
    torch.testing.assert_close(gradient, (a * (1 - a)).sqrt() * (x - POINT_C))
    loss = sds_loss(x, noise, A, e, e, scale=100.0)
    torch.testing.assert_close(loss, 0.5 * gradient.square().sum() / 3)


def test_sds_of_a_gaussian_in_mean_and_variance():
    torch.manual_seed(0)
    mean, spread, a = 0.7, 1.3, SCHEDULE.at(torch.tensor([500]))
    x = torch.full((1, 400_000), 2.0, dtype=torch.float64)
    noise = torch.randn_like(x)
    noisy = add_noise(x, noise, a)
    total = a * spread**2 + 1 - a
    e = (1 - a).sqrt() * (noisy - a.sqrt() * mean) / total
    gradient = sds_gradient(e, e, noise, a, scale=0.0, form="B")
    expected = (1 - a) ** 1.5 * a.sqrt() * (2.0 - mean) / total
    variance = ((1 - a) * a * spread**2 / total) ** 2
    assert abs(gradient.mean() - expected) < 5 * (variance / x.numel()).sqrt()
    assert abs(gradient.var() / variance - 1) < 0.02


@pytest.mark.parametrize(("form", "scale"), [("A", 0.0), ("B", 0.0), ("A", 7.5), ("B", 7.5)])
def test_the_two_forms_of_guidance_aim_at_different_points(form, scale):
    x, noise = example()
    noisy = add_noise(x, noise, A)
    e = guided(point_noise(noisy, POINT_C, A), point_noise(noisy, POINT_U, A), scale, form)
    start = POINT_C if form == "A" else POINT_U
    torch.testing.assert_close(e, point_noise(noisy, start + scale * (POINT_C - POINT_U), A))


def test_names_that_do_not_exist():
    x, noise = example()
    with pytest.raises(UserError, match="guidance form 'C'; one of A"):
        guided(x, x, 1.0, "C")
    with pytest.raises(UserError, match="weighting 'dream'; one of sds, uniform, fantasia3d"):
        timestep_weight(A, "dream")
    with pytest.raises(ValueError, match="one value per entry"):
        add_noise(x, noise, torch.ones(2))


@pytest.mark.parametrize(("rescale", "factor"), [(0.0, 50.0), (0.5, 25.5), (1.0, 1.0)])
def test_reconstruction_of_a_point(rescale, factor):
    x, noise = example(8, 4, 6, 6)
    point = torch.randn(4, 4, 6, 6, dtype=torch.float64).repeat(2, 1, 1, 1)
    a = SCHEDULE.at(torch.tensor([730]))
    noisy = add_noise(x, noise, a)
    target = reconstruction_target(noisy, a, point_noise(noisy, point, a), point_noise(noisy, 0.0, a), rescale=rescale)
    torch.testing.assert_close(target, factor * point, rtol=1e-6, atol=1e-6)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(reconstruction_loss(x, target), x)
    torch.testing.assert_close(gradient, (x.detach() - target) / 8)


def test_reconstruction_is_sds_with_another_weight():
    x, noise = example(8, 4, 6, 6)
    c, u = example(8, 4, 6, 6)
    a = SCHEDULE.at(torch.tensor([300]))
    noisy = add_noise(x, noise, a)
    target = reconstruction_target(noisy, a, c, u, rescale=0.0)
    expected = per_entry(timestep_weight_of_reconstruction(a), x) * (guided(c, u, 50.0, "B") - noise)
    torch.testing.assert_close(x - target, expected, rtol=1e-10, atol=1e-10)


def test_vsd_of_points_and_at_its_optimum():
    x, noise = example()
    noisy, a = add_noise(x, noise, A), per_entry(A, x)
    e_pre, e_copy = (point_noise(noisy, point, A) for point in (POINT_C, POINT_U))
    expected = ((a * (1 - a)).sqrt() * (POINT_U - POINT_C)).expand_as(x)
    torch.testing.assert_close(vsd_gradient(e_pre, e_copy, A), expected)
    assert not vsd_gradient(e_pre, e_pre, A).any(), "exactly zero where the copy is the pre-trained network"
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(vsd_loss(x, A, e_pre, e_pre), x)
    assert not gradient.any()
    of_render = point_noise(noisy, x.detach(), A)
    sds = sds_gradient(e_pre, e_pre, noise, A, scale=1.0, form="B")
    torch.testing.assert_close(vsd_gradient(e_pre, of_render, A), sds)


def test_velocity_and_noise_copies_agree():
    x, noise = example()
    noisy, a = add_noise(x, noise, A), per_entry(A, x)
    e = point_noise(noisy, POINT_U, A)
    velocity = a.sqrt() * e - (1 - a).sqrt() * POINT_U
    torch.testing.assert_close(noise_from_velocity(noisy, velocity, A), e)
    best = {"noise": noise, "velocity": copy_target(x, noise, A, "velocity")}
    for predicts, prediction in best.items():
        assert copy_loss(prediction, x, noise, A, predicts) == 0
    torch.testing.assert_close(copy_loss(torch.zeros_like(x), x, noise, A, "noise"), noise.square().mean())


class PointVideo:
    """Guidance whose data is one video; the autoencoder scales by an orthonormal factor, so everything is linear."""

    def __init__(self, point_c, point_u, schedule, scale=1.0):
        self.points, self.scale = (point_c, point_u), scale
        self.traits = Traits("point", Kind.VIDEO, (8, 8), (3, 8, 8), schedule, frames=point_c.shape[2])

    def encode(self, rendered, draws):
        return rendered.color * self.scale

    def decode(self, latents):
        return latents / self.scale

    def predict(self, noisy, timesteps, cameras, prompt, *, unconditional=True):
        a = self.traits.schedule.at(timesteps.flatten())
        flat = noisy.flatten(0, 2)
        return NoisePrediction(
            *(point_noise(flat, self.scale * p.flatten(0, 2), a).reshape(noisy.shape) for p in self.points)
        )


@pytest.mark.parametrize("steps", [1, 4])
def test_one_step_video_of_a_point(steps):
    torch.manual_seed(1)
    point_c, point_u = torch.rand(2, 1, 1, 3, 3, 8, 8, dtype=torch.float64)
    guidance = PointVideo(point_c, point_u, scaled_linear_schedule(ends_at_one=True), scale=2.0)
    render = blank(1, 1, 3)
    color = torch.rand_like(render.color).requires_grad_()
    render = type(render)(color, render.opacity, color, render.cameras)
    objective = OneStep(3.0, "A", steps, timesteps=TimestepRange(0.6, 0.6))
    found = Teacher(guidance, None, objective).losses(render, 0, SeededDraws(0))
    aim = point_c + 3 * (point_c - point_u)
    torch.testing.assert_close(found["latent"], 0.5 * (2 * (color - aim)).square().sum())
    torch.testing.assert_close(found["color"], (color - aim).square().sum())
    (gradient,) = torch.autograd.grad(found["latent"] + 0.1 * found["color"], color)
    torch.testing.assert_close(gradient, (4 + 0.2) * (color - aim).detach())


def test_one_step_video_where_the_last_level_is_noisy():
    point = torch.zeros(1, 1, 1, 3, 8, 8, dtype=torch.float64) + 0.5
    guidance = PointVideo(point, point, SCHEDULE)
    render, t = blank(1, 1, 1), 700
    noise, fresh = torch.randn(2, 1, 1, 1, 3, 8, 8, dtype=torch.float64)
    draws = StoredDraws({"t": torch.tensor([t]), "noise": noise, "step0": fresh})
    found = Teacher(guidance, None, OneStep(1.0, timesteps=TimestepRange(0.7, 0.7))).losses(render, 0, draws)
    a, b = SCHEDULE.alpha_bar[t], SCHEDULE.alpha_bar[0]
    noisy = (1 - a).sqrt() * noise  # of a black render
    e = (noisy - a.sqrt() * point) / (1 - a).sqrt()
    variance = (1 - b) / (1 - a) * (1 - a / b)
    target = b.sqrt() * point + (1 - b - variance).sqrt() * e + variance.sqrt() * fresh
    torch.testing.assert_close(found["latent"], 0.5 * target.square().sum())


def test_total_variation_of_a_ramp():
    T, H, W = 4, 5, 7
    rates = (0.3, -0.2, 0.5)
    t, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (T, H, W)), indexing="ij")
    ramp = (rates[0] * x + rates[1] * y + rates[2] * t)[None, ..., None].expand(1, T, H, W, 3)
    found = displacement_variation(ramp)
    assert found.width == pytest.approx(3 * rates[0] ** 2 * T * H * (W - 1))
    assert found.height == pytest.approx(3 * rates[1] ** 2 * T * (H - 1) * W)
    assert found.time == pytest.approx(3 * rates[2] ** 2 * (T - 1) * H * W)
    torch.testing.assert_close(displacement_variation(ramp.expand(2, -1, -1, -1, -1)).total, found.total)
    assert displacement_variation(torch.ones(1, T, H, W, 3)).total == 0
    with pytest.raises(ValueError, match="is \\[B, T, H, W, 3\\]"):
        displacement_variation(ramp[0])


def test_opacity_and_orientation_at_known_values():
    assert sparsity(torch.zeros(5)) == pytest.approx(0.1)
    assert opaqueness(torch.tensor([0.5], dtype=torch.float64)) == pytest.approx(0.6931471805599453)
    assert opaqueness(torch.tensor([0.0, 1.0])) < 0.01
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.6, 0.0, 0.8]])
    forward = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    weights = torch.tensor([0.5, 9.0, 1.0], requires_grad=True)
    found = orientation(weights, normals.requires_grad_(), forward, torch.tensor([0.0, 0.4, 0.1, 0.0]))
    assert found.item() == pytest.approx((0.5 * 1.0 + 1.0 * 0.64) / 2)
    found.backward()
    assert weights.grad is None, "the weights are held"


def test_a_copy_goes_with_vsd_alone():
    guidance = PointVideo(*torch.rand(2, 1, 1, 3, 3, 8, 8), SCHEDULE)
    with pytest.raises(UserError, match="goes with VSD, and with VSD alone"):
        Teacher(guidance, None, Vsd())
    with pytest.raises(UserError, match="goes with VSD, and with VSD alone"):
        Teacher(guidance, None, Sds(), copy=object())


def test_a_render_that_is_not_finite_shows_in_the_loss():
    latents = torch.full((1, 1, 1, 3, 8, 8), torch.nan, dtype=torch.float64)
    guidance = PointVideo(*torch.rand(2, 1, 1, 1, 3, 8, 8), SCHEDULE)
    guidance.encode = GivenLatents(latents).encode
    assert not torch.isfinite(Teacher(guidance, None, Sds()).losses(blank(1, 1, 1), 0, SeededDraws(0))["sds"])
