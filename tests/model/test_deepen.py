"""A deepened network against the one that it was made from."""

from __future__ import annotations

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.deepen import deepened
from viewtime.model.mini.network import MiniNetwork

CONFIG = MiniConfig(size=16, stem_widths=(8, 16), width=32, depth=2, head_dim=16, lift_channels=4)


def trained(growth: float = 1.0) -> dict[str, torch.Tensor]:
    """A network whose tokens are `growth` times as large, which its normalisations hide."""
    torch.manual_seed(1)
    network = MiniNetwork(CONFIG)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    into = ("position", "encoder.down_quarter", "camera_to_tokens", "embed_frame")
    return {
        name: tensor * (growth if name.startswith(into) or "attention.out" in name or "mlp_out" in name else 1.0)
        for name, tensor in network.state_dict().items()
    }


def predict(state: dict[str, torch.Tensor], config: MiniConfig) -> tuple[torch.Tensor, MiniNetwork]:
    network = MiniNetwork(config)
    network.load_state_dict(state)
    torch.manual_seed(2)
    x = torch.randn(1, 3, 2, 4, 16, 16)
    known = torch.zeros(1, 3, 2, dtype=torch.bool)
    known[:, 0] = True
    angles = torch.rand(1, 3, 2) * 90
    cond = {"known": known, "known_frames": x, "elevation": angles, "azimuth": angles}
    return network(x, torch.full((1, 3, 2), 0.5), cond), network


def test_a_deeper_network_computes_the_same_and_every_new_layer_learns():
    state = trained(growth=8.0)
    before, _ = predict(state, CONFIG)
    after, deeper = predict(*deepened(state, CONFIG, 6))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4)
    after.square().mean().backward()
    for layer in deeper.layers[2:]:
        for last in (layer.attention.out, layer.mlp_out):
            assert float(last.weight.grad.abs().max()) > 0


def test_new_layers_weigh_as_much_beside_tokens_that_grew():
    small, large = (predict(*deepened(trained(growth), CONFIG, 4)) for growth in (4.0, 64.0))
    for prediction, _ in (small, large):
        prediction.square().mean().backward()
    for layer_small, layer_large in zip(small[1].layers[2:], large[1].layers[2:], strict=True):
        expected, got = layer_small.mlp_out.weight.grad, layer_large.mlp_out.weight.grad
        assert float((got - expected).norm() / expected.norm()) < 0.02


def test_depth_must_grow_and_stay_even():
    state = MiniNetwork(CONFIG).state_dict()
    with pytest.raises(UserError, match="has 2 layers already"):
        deepened(state, CONFIG, 2)
    with pytest.raises(UserError, match="depth 3 must be even"):
        deepened(state, CONFIG, 3)
