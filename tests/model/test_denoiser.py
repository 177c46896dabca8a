import math

import pytest
import torch
from torch import nn

from viewtime.model.denoiser import EdmScaling, FlowScaling, NetworkDenoiser, VScaling, add_noise, loss_weight


class Oracle(nn.Module):
    """Predicts what a perfect network would, given the clean value and the noise."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, noise_label, cond):
        self.seen, self.label = x, noise_label
        return self.target


def grid(seed):
    return torch.randn(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(seed))


def perfect_prediction(scaling, clean, noise, sigma):
    s = sigma[..., None, None, None]
    if isinstance(scaling, FlowScaling):
        return noise - clean
    if isinstance(scaling, VScaling):
        return (noise - s * clean) / (1 + s**2).sqrt()
    d = scaling.sigma_data
    noisy = clean + s * noise
    return (clean - d**2 / (s**2 + d**2) * noisy) * (s**2 + d**2).sqrt() / (s * d)


@pytest.mark.parametrize("scaling", [VScaling(), EdmScaling(0.5), FlowScaling()], ids=["v", "edm", "flow"])
def test_a_perfect_network_gives_the_clean_value_at_every_cell_noise(scaling):
    clean, noise = grid(0), grid(1)
    sigma = torch.linspace(0.05, 0.95, 24).reshape(2, 3, 4)
    noisy = add_noise(scaling.schedule_kind, clean, noise, sigma)
    oracle = Oracle(perfect_prediction(scaling, clean, noise, sigma))
    denoised = NetworkDenoiser(oracle, scaling, 1)(noisy, sigma, {})
    torch.testing.assert_close(denoised, clean, atol=2e-5, rtol=0)
    weight = loss_weight(scaling, sigma)
    torch.testing.assert_close(weight, scaling.coefficients(sigma).c_out ** -2)


def test_input_is_scaled_to_unit_variance_and_labelled():
    oracle = Oracle(torch.zeros(1))
    x = grid(2)
    NetworkDenoiser(oracle, VScaling(), 1)(x, torch.tensor([3.7, 0.41]), {})
    torch.testing.assert_close(oracle.seen[0], x[0] / math.sqrt(1 + 3.7**2))
    assert oracle.label.shape == (2, 3, 4)
    torch.testing.assert_close(oracle.label[1], torch.full((3, 4), math.log(0.41) / 4))


def test_a_cell_without_noise_is_returned_unchanged():
    x = grid(3)
    denoised = NetworkDenoiser(Oracle(torch.randn_like(x)), VScaling(), 1)(x, torch.zeros(2, 3, 4), {})
    assert torch.equal(denoised, x)


def test_a_sigma_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="sigma has shape"):
        NetworkDenoiser(Oracle(torch.zeros(1)), VScaling(), 1)(grid(4), torch.ones(2, 4, 3), {})


def test_rectified_flows_network_sees_a_thousandth_as_one():
    sigma = torch.tensor([0.0, 0.25, 1.0])
    assert FlowScaling().coefficients(sigma).noise_label.tolist() == [0.0, 250.0, 1000.0]
