"""Our own grid models as guidance: the noise they see, gradients through their encoders, what does not fit."""

import pytest
import torch
from golden_parts import rendered

from tests.sample.gaussian_model import GaussianModel
from tests.sample.small_models import mini_weights, published_weights
from viewtime.cameras import Cameras, regular_orbit
from viewtime.errors import UserError
from viewtime.recon.distill.guidance.base import Kind, SeededDraws
from viewtime.recon.distill.guidance.grid import ClipPrompt, GridGuidance
from viewtime.recon.distill.guidance.prior import draw_prior
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.objectives import Reconstruction, Sds
from viewtime.recon.distill.scalars import TimestepRange
from viewtime.recon.distill.teacher import Teacher
from viewtime.sample.models.loading import load_model

SCHEDULE = scaled_linear_schedule()
CPU = torch.device("cpu")


def clip(frames, channels, size):
    torch.manual_seed(1)
    pictures = torch.rand(frames, channels, size, size)
    return ClipPrompt("a clip", pictures, regular_orbit(1, frames, elevation=5.0))


def cameras(views, frames):
    return (regular_orbit(views, frames, elevation=20.0, azimuth_start=30.0),)


@pytest.mark.parametrize("kind", ["edm", "flow"])
@pytest.mark.parametrize("inside", [True, False])
def test_the_noise_that_an_exact_denoiser_sees(kind, inside):
    model = GaussianModel(3, 2, 3 if inside else 2, 2, inside, kind, size=4)
    guidance = GridGuidance(model, SCHEDULE)
    assert (guidance.traits.kind, guidance.traits.views, guidance.traits.frames) == (Kind.GRID, 2, 2)
    prompt = clip(2, 1, 4)
    torch.manual_seed(0)
    noisy = torch.randn(1, 2, 2, 1, 4, 4, dtype=torch.float64)
    timesteps = torch.full((1, 2, 2), 600)
    found = guidance.predict(noisy, timesteps, cameras(2, 2), prompt)
    a = SCHEDULE.alpha_bar[600]
    cond, _ = model.conditions(guidance._request(prompt, cameras(2, 2)[0]))
    new = slice(2, None) if inside else slice(None)  # the known row has no variance
    covariance, mean = cond["covariance"][0][new, new], cond["mean"][0][new]
    total = a * covariance + (1 - a) * torch.eye(4)
    residual = noisy.reshape(4, 16) - a.sqrt() * mean.reshape(4, 16)
    expected = (1 - a).sqrt() * torch.linalg.solve(total, residual)
    torch.testing.assert_close(found.conditional.reshape(4, 16), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.conditional, found.unconditional), "this model has no unconditional branch"


@pytest.mark.parametrize(("views", "frames", "kind"), [(3, 1, Kind.MULTI_VIEW), (1, 5, Kind.VIDEO), (3, 5, Kind.GRID)])
def test_the_mini_model_as_each_kind(tmp_path, views, frames, kind):
    model = load_model(str(mini_weights(tmp_path)), CPU, torch.float32)
    guidance = GridGuidance(model, SCHEDULE, views=views, frames=frames)
    assert guidance.traits.kind is kind
    color = torch.rand(1, views, frames, 3, 24, 24, requires_grad=True)
    picture = rendered(color, cameras(views, frames))
    objective = Reconstruction(scale=2.0) if kind is Kind.MULTI_VIEW else Sds(2.0, "B")
    loss = Teacher(guidance, clip(frames, 4, 16), objective).losses(picture, 0, SeededDraws(0))["sds"]
    (gradient,) = torch.autograd.grad(loss, color)
    assert gradient.abs().amin(dim=(3, 4, 5)).shape == (1, views, frames)
    assert (gradient.flatten(3).norm(dim=-1) > 0).all(), "every cell is told something"
    drawn = draw_prior(guidance, clip(frames, 4, 16), cameras(views, frames), SeededDraws(0), steps=2)
    assert drawn.shape == (1, views, frames, 3, 16, 16)
    with pytest.raises(UserError, match=rf"set to {views} views × {frames} frames; the batch has 7 × {frames}"):
        guidance.encode(rendered(torch.zeros(1, 7, frames, 3, 8, 8), cameras(7, frames)), SeededDraws(0))


def test_the_clip_matters_to_the_mini_model(tmp_path):
    model = load_model(str(mini_weights(tmp_path)), CPU, torch.float32)
    guidance = GridGuidance(model, SCHEDULE, views=2, frames=5)
    torch.manual_seed(0)
    noisy, timesteps = torch.randn(1, 2, 5, 4, 16, 16), torch.full((1, 2, 5), 700)
    known = guidance.predict(noisy, timesteps, cameras(2, 5), clip(5, 4, 16))
    other = ClipPrompt("", clip(5, 4, 16).frames.flip(0), clip(5, 4, 16).camera)
    assert not torch.allclose(
        known.conditional, guidance.predict(noisy, timesteps, cameras(2, 5), other).conditional, atol=1e-4
    )
    assert not torch.allclose(known.conditional, known.unconditional, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3])
def test_latents_and_gradients_of_a_published_grid_model(tmp_path, chunk):
    model = load_model(str(published_weights(tmp_path, "sv4d2-debug")), CPU, torch.float32)
    V, F = model.traits.window_views, model.traits.window_frames
    guidance = GridGuidance(model, SCHEDULE, chunk=chunk)
    size = model.traits.size
    color = torch.rand(1, V, F, 3, size, size, requires_grad=True)
    draws, ranges = SeededDraws(0), TimestepRange(0.5, 0.5)
    picture = rendered(color, cameras(V, F))
    latents = guidance.encode(picture, draws)
    assert latents.shape[3:] == model.latent_shape()
    with torch.no_grad():
        expected = model.model.codec().encode(color * 2 - 1) * model.model.config.vae.scale
    torch.testing.assert_close(latents, expected)
    loss = Teacher(guidance, clip(F, 3, size), Sds(2.0, "B", timesteps=ranges)).losses(picture, 0, draws)["sds"]
    (gradient,) = torch.autograd.grad(loss, color)
    assert (gradient.flatten(3).norm(dim=-1) > 0).all()


def test_reference_views_are_asked_for():
    model = GaussianModel(3, 2, 2, 2, False, size=4)
    model.traits = type(model.traits)("sv4d", 2, 2, 4, 1, inside=False, needs_reference=True)
    guidance = GridGuidance(model, SCHEDULE)
    noisy, timesteps = torch.randn(1, 2, 2, 1, 4, 4), torch.full((1, 2, 2), 600)
    with pytest.raises(UserError, match="needs 2 reference views of the first frame"):
        guidance.predict(noisy, timesteps, cameras(2, 2), clip(2, 1, 4))
    prompt = ClipPrompt("", *(getattr(clip(2, 1, 4), name) for name in ("frames", "camera")), torch.rand(2, 1, 4, 4))
    assert guidance.predict(noisy, timesteps, cameras(2, 2), prompt).conditional.shape == noisy.shape
    assert isinstance(prompt.camera, Cameras)


def test_a_prior_is_drawn_in_as_many_evaluations_from_pure_noise_down(tmp_path, monkeypatch):
    guidance = GridGuidance(load_model(str(mini_weights(tmp_path)), CPU, torch.float32), SCHEDULE, views=3, frames=1)
    seen, real = [], guidance.predict
    monkeypatch.setattr(guidance, "predict", lambda x, t, *rest: seen.append(int(t[0, 0, 0])) or real(x, t, *rest))
    draw_prior(guidance, clip(1, 4, 16), cameras(3, 1), SeededDraws(0), steps=4)
    last = len(SCHEDULE) - 1
    assert seen == [last, round(0.75 * last), round(0.5 * last), round(0.25 * last)]
