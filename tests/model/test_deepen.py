"""A deepened network against the one that it was made from."""

from __future__ import annotations

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.deepen import deepened
from viewtime.model.mini.network import MiniNetwork

CONFIG = MiniConfig(size=16, stem_widths=(8, 16), width=32, depth=2, head_dim=16, lift_channels=4)


def test_a_deeper_network_computes_the_same_and_every_new_layer_learns():
    torch.manual_seed(1)
    network = MiniNetwork(CONFIG)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    halves = {name: tensor.half() for name, tensor in network.state_dict().items()}
    network.load_state_dict(halves)
    state, config = deepened(halves, CONFIG, 6)
    deeper = MiniNetwork(config)
    deeper.load_state_dict(state)
    x = torch.randn(1, 3, 2, 4, 16, 16)
    known = torch.zeros(1, 3, 2, dtype=torch.bool)
    known[:, 0] = True
    angles = torch.rand(1, 3, 2) * 90
    cond = {"known": known, "known_frames": x, "elevation": angles, "azimuth": angles}
    before, after = (net(x, torch.full((1, 3, 2), 0.5), cond) for net in (network, deeper))
    assert torch.equal(before, after)
    after.square().mean().backward()
    for layer in deeper.layers[2:]:
        for last in (layer.attention.out, layer.mlp_out):
            assert float(last.weight.grad.abs().max()) > 0


def test_depth_must_grow_and_stay_even():
    state = MiniNetwork(CONFIG).state_dict()
    with pytest.raises(UserError, match="has 2 layers already"):
        deepened(state, CONFIG, 2)
    with pytest.raises(UserError, match="depth 3 must be even"):
        deepened(state, CONFIG, 3)
