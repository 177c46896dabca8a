"""Noise levels, weights, and the optimality of the analytic denoiser."""

from __future__ import annotations

import math

import pytest
import torch

from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import DataSection, ModelSection, Stage, TrainConfig
from viewtime.errors import UserError
from viewtime.train.objective.losses import (
    add_noise,
    denoising_loss,
    draw_level,
    noised_batch,
    outline_errors,
    sample_errors,
    sample_generator,
    stage_loss,
    weight,
)
from viewtime.train.streams.batches import read_batch


def levels(loss: LossSection, count: int = 4000) -> torch.Tensor:
    return torch.tensor([draw_level(loss, sample_generator(0, i)) for i in range(count)])


def test_logit_normal_times_have_their_moments():
    logits = torch.logit(levels(LossSection(logit_mean=0.6, logit_std=0.8)))
    assert float(logits.mean()) == pytest.approx(0.6, abs=0.05)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.05)


def test_shift_maps_the_median():
    plain_median = levels(LossSection(times="uniform")).median()
    shifted = levels(LossSection(times="uniform", shift=3.0)).median()
    assert float(plain_median) == pytest.approx(0.5, abs=0.03)
    assert float(shifted) == pytest.approx(0.75, abs=0.03)


def test_point_mass_has_its_share():
    drawn = levels(LossSection(logit_mean=-2.0, point_mass=0.3))
    assert float((drawn > 0.98).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_edm_levels_are_log_normal():
    logs = levels(LossSection(kind="edm", weighting="edm", log_sigma_mean=-1.2, log_sigma_std=1.2)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.06)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.06)


def test_weights_equal_their_formulas():
    t = torch.tensor([0.05, 0.5, 1.0])
    assert weight(t, LossSection(weight_floor=0.1)).tolist() == pytest.approx([100.0, 4.0, 1.0])
    assert weight(t, LossSection(weighting="min_snr")).tolist() == pytest.approx([5.0, 1.0, 0.0])
    sigma = torch.tensor([0.5, 2.0])
    edm = weight(sigma, LossSection(kind="edm", weighting="edm", sigma_data=0.5))
    assert edm.tolist() == pytest.approx([8.0, (4 + 0.25) / 1.0])


def test_min_snr_of_edm_levels_is_one_over_sigma_squared_up_to_gamma():
    """Hang et al. 2023: SNR is 1 / sigma^2 for noise that is added, (1 - t)^2 / t^2 for noise that is mixed in."""
    sigma = torch.tensor([0.1, 0.5, 2.0])
    edm = LossSection(kind="edm", weighting="min_snr", min_snr_gamma=3.0)
    assert weight(sigma, edm).tolist() == pytest.approx([3.0, 3.0, 0.25])
    flow = LossSection(weighting="min_snr", min_snr_gamma=3.0)
    assert weight(torch.tensor([0.25, 0.4, 0.8]), flow).tolist() == pytest.approx([3.0, 2.25, 0.0625])


def test_velocity_weight_is_the_velocity_error():
    x0, noise, guess = torch.randn(3, 2, 2, 1, 3, 3, 3).unbind(0)
    t = torch.tensor([0.3, 0.8])
    x = add_noise(x0, t.view(2, 1, 1, 1, 1, 1), noise[:, :, :1, :, :, :].expand_as(x0), "flow")
    velocity = noise - x0
    predicted = (x - guess) / t.view(2, 1, 1, 1, 1, 1)
    direct = (predicted - velocity).square().flatten(1).mean(1)
    ours = weight(t, LossSection()) * sample_errors(guess, x0, torch.ones(x0.shape[:3], dtype=torch.bool))
    assert torch.allclose(direct, ours, rtol=1e-4)


def test_shared_noise_differs_between_views_and_samples_but_not_between_frames():
    x0 = torch.zeros(2, 3, 4, 4, 16, 16)
    generators = [sample_generator(1, i) for i in range(2)]
    noised = noised_batch(x0, None, LossSection(frame_noise="shared"), generators, level=1.0)
    assert torch.equal(noised.x, noised.x[:, :, :1].expand_as(noised.x))
    rows = noised.x[:, :, 0].flatten(0, 1).flatten(1)
    assert torch.allclose(torch.corrcoef(rows), torch.eye(6), atol=0.15)
    assert float(noised.x.std()) == pytest.approx(1.0, abs=0.02)


def test_known_cells_are_clean_and_carry_no_loss():
    x0 = torch.randn(2, 3, 2, 4, 4, 4)
    known = torch.zeros(2, 3, 2, dtype=torch.bool)
    known[:, 0] = True
    noised = noised_batch(x0, known, LossSection(), [sample_generator(1, i) for i in range(2)])
    assert torch.equal(noised.x[:, 0], x0[:, 0])
    assert (noised.sigma[:, 0] == 0).all()
    assert (noised.sigma[:, 1:] > 0).all()
    prediction = x0.clone()
    prediction[:, 0] += 100
    assert float(denoising_loss(prediction, x0, noised, LossSection())[0]) == 0.0
    prediction[:, 1, 0] += 1
    per_cell = weight(noised.level, LossSection()) / 4
    assert torch.allclose(denoising_loss(prediction, x0, noised, LossSection())[1], per_cell, rtol=1e-4)


def test_a_sample_gets_the_same_noise_in_any_batch():
    x0 = torch.randn(3, 2, 2, 1, 4, 4)
    whole = noised_batch(x0, None, LossSection(), [sample_generator(5, i) for i in range(3)])
    alone = noised_batch(x0[2:], None, LossSection(), [sample_generator(5, 2)])
    assert torch.equal(whole.x[2:], alone.x)
    assert not torch.equal(whole.x[0] - x0[0], whole.x[1] - x0[1])


def known_batch(full: bool) -> dict:
    known = torch.ones(2, 1, 2, dtype=torch.bool)
    known[0, 0, 1], known[1, 0, 1] = False, full
    return {"x0": torch.zeros(2, 1, 2, 1, 2, 2), "cond": {"known": known}, "ids": ["fox", "owl"]}


def test_nothing_to_learn_is_an_error():
    with pytest.raises(UserError, match=r"all known.*\(samples owl\)"):
        read_batch(known_batch(True), torch.device("cpu"), masked=True)
    assert read_batch(known_batch(False), torch.device("cpu"), masked=True).ids == ["fox", "owl"]


@pytest.mark.parametrize("kind", ["flow", "edm"])
def test_analytic_gaussian_denoiser_minimises_the_loss(kind: str):
    """For x0 ~ N(mu, s²) the minimiser is the posterior mean; changing its slope or offset costs loss."""
    loss = LossSection(kind=kind, weighting="v" if kind == "flow" else "edm", log_sigma_mean=-0.5, log_sigma_std=1.0)  # type: ignore[arg-type]
    mean, spread, count = 0.3, 0.5, 4000
    x0 = mean + spread * torch.randn(count, 1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    noised = noised_batch(x0, None, loss, [sample_generator(0, i) for i in range(count)])
    sigma = noised.sigma[..., None, None, None]
    scale = 1 - sigma if kind == "flow" else torch.ones_like(sigma)
    gain = scale * spread**2 / (scale**2 * spread**2 + sigma**2)

    def total(slope: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        guess = mean + offset + slope * gain * (noised.x - scale * mean)
        return denoising_loss(guess, x0, noised, loss)[0]

    slope, offset = torch.tensor(1.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    value = total(slope, offset)
    by_slope, by_offset = torch.autograd.grad(value, (slope, offset))
    best = value.detach()
    assert abs(float(by_slope)) < 0.03 * float(best)
    assert abs(float(by_offset)) < 0.2 * math.sqrt(float(best))
    for change in (0.8, 1.2):
        assert float(total(torch.tensor(change), offset)) > 1.005 * float(best)
    for change in (-0.1, 0.1):
        assert float(total(slope, torch.tensor(change))) > 1.005 * float(best)


def test_outlines_that_agree_cost_nothing_and_those_that_miss_cost_one():
    x0 = -torch.ones(1, 2, 1, 4, 8, 8)
    x0[:, :, :, 3, :4] = 1.0
    unknown = torch.tensor([[[False], [True]]])
    assert outline_errors(x0, x0, unknown).item() == 0.0
    assert outline_errors(-x0, x0, unknown).item() == 1.0
    half = x0.clone()
    half[:, 1, :, 3, :2] = -1.0
    assert outline_errors(half, x0, unknown).item() == pytest.approx(0.5)
    half[:, 0] = -x0[:, 0]  # a known cell
    assert outline_errors(half, x0, unknown).item() == pytest.approx(0.5)
    speck = -torch.ones_like(x0)
    speck[:, :, :, 3, 2, 2] = 1.0
    assert outline_errors(speck, speck, unknown).item() == 0.0


def test_unsure_outlines_are_decided_where_the_squared_error_leaves_them_open():
    """Two equally likely outlines, one inside the other: the best alpha of the rest is 1/2, or all of it."""
    inside = torch.zeros(8, 8)
    inside[2:6, 2:6] = 1
    outside = torch.zeros(8, 8)
    outside[1:7, 1:7] = 1
    x0 = torch.ones(2, 1, 1, 4, 8, 8)
    x0[0, 0, 0, 3], x0[1, 0, 0, 3] = inside * 2 - 1, outside * 2 - 1
    unknown = torch.ones(2, 1, 1, dtype=torch.bool)
    alphas = torch.linspace(0, 1, 21)

    def best(error) -> float:
        guesses = []
        for alpha in alphas:
            guess = torch.ones(2, 1, 1, 4, 8, 8)
            guess[:, :, :, 3] = (inside + alpha * (outside - inside)) * 2 - 1
            guesses.append(float(error(guess, x0, unknown).mean()))
        return float(alphas[guesses.index(min(guesses))])

    assert best(sample_errors) == pytest.approx(0.5)
    assert best(outline_errors) in (0.0, 1.0)


def test_outlines_need_alpha_and_a_weight_that_is_not_negative():
    x0 = torch.zeros(1, 1, 1, 3, 4, 4)
    noised = noised_batch(x0, None, LossSection(), [sample_generator(0, 0)])
    with pytest.raises(UserError, match="3 channels"):
        denoising_loss(x0, x0, noised, LossSection(outline=0.5))
    with pytest.raises(UserError, match="outline is -1"):
        LossSection(outline=-1)
    with pytest.raises(UserError, match=r"outline needs loss\.kind"):
        LossSection(kind="edm", weighting="edm", outline=0.5)


def test_outlines_of_latents_are_refused_before_training():
    stage = Stage("only", lr=1e-3, batch_size=1, steps=1, loss={"outline": 0.5})
    model = ModelSection("mini")
    pixels, latents = (DataSection("grids", {"kind": kind}) for kind in ("pixels", "latents"))
    assert stage_loss(TrainConfig(model, pixels, stages=[stage]), stage).outline == 0.5
    with pytest.raises(UserError, match="outline needs alpha"):
        stage_loss(TrainConfig(model, latents, stages=[stage]), stage)
