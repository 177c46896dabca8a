"""Samplers on an analytic denoiser: they converge to the exact flow with their order of accuracy."""

import math

import pytest
import torch
from gaussian_model import GaussianDenoiser, covariance

from viewtime.sample.solver.samplers import SAMPLERS, get_sampler
from viewtime.sample.solver.schedules import Schedule, edm_sigmas, flow_times, make_schedule

V, F = 3, 4


def exact(x, cov, kind, start, end):
    """Solution of the flow ODE of a Gaussian at noise level `end`: each eigencomponent scales with its deviation."""
    values, vectors = torch.linalg.eigh(cov)

    def deviation(level):
        signal = 1.0 if kind == "edm" else 1.0 - level
        return (signal**2 * values.clamp_min(0) + level**2).sqrt()

    return vectors @ ((deviation(end) / deviation(start))[:, None] * (vectors.T @ x))


def error(name, kind, steps):
    """Largest error at a low but positive noise level, in units of the field's deviation."""
    cov = torch.from_numpy(covariance(V, F))
    # A ladder that stops above 0 shows the order; at 0 the last, exact step would hide it.
    if kind == "edm":
        start, end = 20.0, 0.3
        ladder = torch.linspace(start ** (1 / 7), end ** (1 / 7), steps + 1, dtype=torch.float64) ** 7
    else:
        start, end = 0.98, 0.1
        ladder = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    schedule = Schedule(kind, ladder)
    denoiser = GaussianDenoiser(kind)
    cond = {"covariance": cov[None], "mean": torch.zeros(1, V * F, 1, 4, 4, dtype=torch.float64)}
    generator = torch.Generator().manual_seed(0)
    x = start * torch.randn(1, V, F, 1, 4, 4, generator=generator, dtype=torch.float64)
    denoise = lambda state, sigma, step: denoiser(state, torch.tensor([sigma], dtype=torch.float64), cond)  # noqa: E731
    sampled = get_sampler(name)(denoise, x, schedule)
    expected = exact(x.reshape(V * F, -1), cov, kind, start, end)
    return float((sampled.reshape(V * F, -1) - expected).abs().max())


# On a Gaussian the leading error term of the midpoint rule cancels, so that it shows order 3 there.
@pytest.mark.parametrize("kind", ["edm", "flow"])
@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 3), ("dpmpp-2m", 2)])
def test_order_of_accuracy(name, order, kind, capsys):
    coarse, fine = error(name, kind, 64), error(name, kind, 128)
    observed = math.log2(coarse / fine)
    with capsys.disabled():
        print(f"\n{name:9s} {kind:4s}: error {coarse:.2e} -> {fine:.2e} at 64 -> 128 steps, order {observed:.2f}")
    assert abs(observed - order) < 0.25


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("dpmpp-2m", 2)])
def test_order_on_a_mixture(name, order):
    """Two Gaussians at -1 and 1 with deviation 0.3, where nothing cancels; reference: very fine Heun."""

    def denoise(x, sigma, step):
        spread = 0.3**2 + sigma**2
        centre = torch.tanh(x / spread)
        return centre + 0.3**2 / spread * (x - centre)

    def solve(sampler, steps):
        ladder = torch.linspace(2.0 ** (1 / 3), 0.2 ** (1 / 3), steps + 1, dtype=torch.float64) ** 3
        return get_sampler(sampler)(denoise, torch.linspace(-3, 3, 41, dtype=torch.float64), Schedule("edm", ladder))

    reference = solve("heun", 8192)
    errors = [float((solve(name, steps) - reference).abs().max()) for steps in (128, 256)]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.25


@pytest.mark.parametrize("kind", ["edm", "flow"])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_samples_have_the_fields_covariance(name, kind):
    """From pure noise down to 0, over many independent pixels."""
    cov = torch.from_numpy(covariance(V, F))
    denoiser = GaussianDenoiser(kind)
    schedule = make_schedule(kind, 80, sigma_max=80.0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, V, F, 1, 128, 128, generator=generator, dtype=torch.float64) * schedule.initial_scale
    cond = {"covariance": cov[None], "mean": torch.zeros(1, V * F, 1, 128, 128, dtype=torch.float64)}
    denoise = lambda state, sigma, step: denoiser(state, torch.tensor([sigma], dtype=torch.float64), cond)  # noqa: E731
    rows = get_sampler(name)(denoise, x, schedule).reshape(V * F, -1)
    measured = rows @ rows.T / rows.shape[1]
    # 16384 pixels: three standard errors are about 0.035; first order at 80 steps is off by a few per cent more.
    assert (measured - cov).abs().max() < (0.12 if name == "euler" else 0.05)


def test_ladders():
    sigmas = edm_sigmas(20)
    assert len(sigmas) == 21
    assert sigmas[-1] == 0
    torch.testing.assert_close(sigmas[[0, 19]], torch.tensor([700.0, 0.002]), rtol=1e-5, atol=0)
    times = flow_times(4, shift=3.0)
    torch.testing.assert_close(times, torch.tensor([1.0, 0.9, 0.75, 0.5, 0.0]))
    assert make_schedule("flow", 3).initial_scale == 1.0
    assert make_schedule("edm", 3).initial_scale == pytest.approx(math.sqrt(1 + 700.0**2))
