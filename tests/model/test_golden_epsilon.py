"""GroupNorm's epsilon changes the outputs by less than the golden files' own rounding, but in a known direction."""

import pytest
import torch
from golden_files import arrays, conditioning, network, to_grid
from torch import nn

from viewtime.model.sv4d.grid_attention import GridAttention

BATCH = 2


def double(value):
    return value.double() if value.is_floating_point() else value


def norms(unet):
    """Entry norms of the attention layers, and all other group norms."""
    attention = [module.norm for module in unet.modules() if isinstance(module, GridAttention)]
    others = [module for module in unet.modules() if isinstance(module, nn.GroupNorm) and module not in attention]
    return {"attention": attention, "other": others}


@pytest.mark.parametrize("name", ["sv4d", "svd"])
@pytest.mark.parametrize(("kind", "wrong", "right"), [("attention", 1e-5, 1e-6), ("other", 1e-6, 1e-5)])
def test_epsilon_golden(name, kind, wrong, right):
    """The error has no share of the difference that the wrong epsilon makes (1 if it were planted)."""
    data = arrays(name)
    views = int(data.get("V", 1))
    unet = network(name).double()
    cond = {key: double(value) for key, value in conditioning(name, data, views, BATCH).items()}
    x, label, published = (double(to_grid(name, data[key], views, BATCH)) for key in ("x", "t", "out"))
    error = unet(x, label, cond) - published
    outputs = {}
    for epsilon in (wrong, right):
        for norm in norms(unet)[kind]:
            norm.eps = epsilon
        outputs[epsilon] = unet(x, label, cond)
    direction = outputs[wrong] - outputs[right]
    share = (error * direction).sum() / direction.square().sum()
    assert direction.abs().max() > 1e-6
    assert torch.abs(share) < 0.3
