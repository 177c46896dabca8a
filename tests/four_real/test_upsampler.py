"""The upsampler: bilinear before training, no dependence on the batch, learns detail in a few steps."""

from __future__ import annotations

import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.errors import UserError
from viewtime.model.denoiser import add_noise
from viewtime.model.four_real.config import BaseConfig, UpsamplerConfig
from viewtime.model.four_real.upsampler import Upsampler, enlarge, shrink
from viewtime.model.registry import build_denoiser
from viewtime.train.streams.small_grids import with_small_grids

BASE = BaseConfig(patch=8, width=32, depth=2, head_dim=16, text_width=0, frame_size=(32, 64), extra_channels=3)


def test_a_fresh_upsampler_is_bilinear_enlargement():
    small = torch.rand(1, 2, 3, 3, 8, 16) * 2 - 1
    x = torch.randn(1, 2, 3, 3, 32, 64)
    out = Upsampler(UpsamplerConfig(BASE))(x, torch.ones(1, 2, 3), {"small": small})
    assert torch.equal(out, enlarge(small, 4))


def test_shrinking_is_the_mean_over_squares():
    large = torch.arange(16.0).reshape(1, 1, 1, 1, 4, 4)
    torch.testing.assert_close(shrink(large, 2)[0, 0, 0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    constant = torch.full((1, 2, 2, 3, 8, 8), 0.25)
    torch.testing.assert_close(shrink(enlarge(constant, 4), 4), constant)


def test_a_grid_does_not_depend_on_its_batch_but_on_its_neighbours():
    model = stir(Upsampler(UpsamplerConfig(BASE)))
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 2, 3, 3, 4, 8, generator=generator)
    x = torch.randn(2, 2, 3, 3, 16, 32, generator=generator)
    t = torch.full((2, 2, 3), 0.5)
    both = model(x, t, {"small": small})
    alone = model(x[1:], t[1:], {"small": small[1:]})
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4)
    changed = small.clone()
    changed[0, 0, 0] += 0.5
    difference = (model(x, t, {"small": changed}) - both).abs().amax(dim=(3, 4, 5))
    assert difference[0].min() > 1e-4
    assert difference[1].max() < 1e-5


def test_training_adds_detail():
    torch.manual_seed(0)
    config = {"base": {"patch": 8, "width": 32, "depth": 2, "head_dim": 16, "text_width": 0, "frame_size": (32, 64),
                       "extra_channels": 3}}  # fmt: skip
    denoiser = build_denoiser("4real-upsampler", config)
    x0 = torch.rand(1, 2, 2, 3, 16, 32) * 2 - 1
    cond = {"small": shrink(x0, 4)}
    sigma = torch.tensor([0.9])
    x = add_noise("flow", x0, torch.randn_like(x0), sigma)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = (denoiser(x, sigma, cond) - x0).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[0] == pytest.approx(float((enlarge(cond["small"], 4) - x0).square().mean()), rel=1e-5)
    assert losses[-1] < 0.9 * losses[0]


def test_errors_name_the_value():
    model = Upsampler(UpsamplerConfig(BASE))
    with pytest.raises(UserError, match='no "small"'):
        model(torch.zeros(1, 1, 1, 3, 32, 64), torch.ones(1, 1, 1), {})
    with pytest.raises(UserError, match="does not fit"):
        model(torch.zeros(1, 1, 1, 3, 32, 64), torch.ones(1, 1, 1), {"small": torch.zeros(1, 1, 1, 3, 4, 4)})
    with pytest.raises(UserError, match="extra_channels 0"):
        UpsamplerConfig(BaseConfig())


def test_noise_on_small_grids_is_of_many_levels_and_the_same_after_a_stop():
    options = {"size": 16, "views": 2, "frames": 2, "channels": 3, "factor": 4, "of": "synthetic"}
    clean, noisy, again = (
        with_small_grids({**options, "noise": noise}, batch_size=8, seed=5, rank=0, world=1) for noise in (0, 0.4, 0.4)
    )
    batches = [next(stream) for stream in map(iter, (clean, noisy))]
    truth, small = (batch["cond"]["small"] for batch in batches)
    assert torch.equal(truth, shrink(batches[0]["x0"], 4))
    assert torch.equal(batches[0]["x0"], batches[1]["x0"])
    spread = (small - truth).flatten(1).std(dim=1)
    assert 0 < float(spread.min()) < 0.15 < 0.25 < float(spread.max()) < 0.45
    iterator, state = iter(noisy), noisy.state_dict()
    following = next(iterator)["cond"]["small"]
    again.load_state_dict(state)
    assert torch.equal(next(iter(again))["cond"]["small"], following)
    assert not torch.equal(following - shrink(next(iter(clean))["x0"], 4), small - truth)


def test_noise_below_zero_is_refused():
    with pytest.raises(UserError, match=r"data.options.noise is -0.1"):
        with_small_grids({"factor": 4, "noise": -0.1, "of": "synthetic"}, batch_size=1, seed=0, rank=0, world=1)
