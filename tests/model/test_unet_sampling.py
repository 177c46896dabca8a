"""What the UNet does without gradients, where nothing is kept: against the slow reference, which does all in order."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from golden_files import NETWORKS
from test_unet import GROUPS, inputs
from torch import nn

from tests.recon.strict_device import StrictDevice
from viewtime.model.attention import use_backend
from viewtime.model.sv4d import transformer
from viewtime.model.sv4d.blend import Blend
from viewtime.model.sv4d.convolution import PointConvolution
from viewtime.model.sv4d.grid_attention import Context
from viewtime.model.sv4d.linear import Linear, add_product, products
from viewtime.model.sv4d.residual import ResidualBlock
from viewtime.model.sv4d.transformer import TransformerBlock, attend_among
from viewtime.model.sv4d.unet import VideoUNet


def block(group):
    torch.manual_seed(0)
    made = TransformerBlock(8, 5, 4, group, mlp_in=True)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made, torch.randn(2, 3, 4, 6, 8), torch.randn(2, 3, 1, 1, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_reference(name, monkeypatch):
    monkeypatch.setattr(transformer, "ROWS", 7)
    torch.manual_seed(0)
    unet = VideoUNet(NETWORKS[name])
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    arguments = inputs(NETWORKS[name], batch=2)
    with torch.no_grad():
        fast = unet(*arguments)
    use_backend(unet, "reference")
    slow = unet(*arguments)
    assert slow.requires_grad
    torch.testing.assert_close(fast, slow.detach(), atol=2e-5 * float(slow.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("group", GROUPS)
def test_block_equals_reference(group, device, monkeypatch):
    """The same numbers, and the input is left as it was; "cuda" is pretended on the CPU."""
    monkeypatch.setattr(transformer, "ROWS", 7)
    fast, x, token = block(group)
    slow = copy.deepcopy(fast)
    use_backend(slow, "reference")
    expected = slow(x, token).detach()
    with torch.no_grad(), StrictDevice() if device == "cuda" else nullcontext():
        there, kept = x.to(device), x.to(device).clone()
        value = fast.to(device)(there, token.to(device))
        assert bool((there == kept).all())
        torch.testing.assert_close(value.cpu(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("group", GROUPS)
def test_attention_where_the_tokens_lie_has_the_references_gradient(group):
    tokens = [torch.randn(2, 3, 4, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    found = []
    for backend in ("sdpa", "reference"):
        value = attend_among(*tokens, group, 4, backend)
        found.append((value, *torch.autograd.grad((value * weight).sum(), tokens)))
    for fast, slow in zip(*found):
        torch.testing.assert_close(fast, slow)


def test_an_adapter_around_a_layer_is_heard():
    """Layers of LoRA are wrapped while a model is sampled to be looked at: their own call counts, not the weight."""

    class Adapted(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.weight, self.bias = layer, layer.weight, layer.bias

        def forward(self, x):
            return 2 * self.layer(x)

    made, x, token = block("frame")
    made.self_attention.out = Adapted(made.self_attention.out)
    made.self_attention.key = Adapted(made.self_attention.key)
    expected = made(x, token).detach()
    with torch.no_grad():
        torch.testing.assert_close(made(x, token), expected, atol=1e-5, rtol=1e-5)


def test_products_that_share_a_pass():
    x, total = torch.randn(2, 5, 12), torch.randn(2, 5, 8)
    layers = [Linear(12, 8, bias=False), Linear(12, 4, bias=False)]
    expected = [F.linear(x, layer.weight).detach() for layer in layers]
    with torch.no_grad(), StrictDevice():
        there = [layer.to("cuda") for layer in layers]
        for value, right in zip(products(x.to("cuda"), there), expected):
            torch.testing.assert_close(value.cpu(), right)
        summed = add_product(total.to("cuda"), x.to("cuda"), there[0].weight)
        torch.testing.assert_close(summed.cpu(), total + expected[0])
        half = add_product(total.to("cuda"), x.to("cuda").double(), there[0].weight.double())
        assert half.dtype == torch.float64
    with torch.no_grad():
        torch.testing.assert_close(
            add_product(total.clone(), x, torch.eye(12)[:8]), total + x[..., :8], atol=1e-6, rtol=1e-6
        )


def test_residual_block_and_its_input():
    torch.manual_seed(0)
    made = ResidualBlock(32, 64, 16)
    x = torch.randn(4, 32, 6, 6)
    context = Context(2, 2, 1, torch.randn(2, 2, 1, 16), torch.empty(0), None, None, None)
    kept, expected = x.clone(), made(x, context).detach()
    with torch.no_grad():
        torch.testing.assert_close(made(x, context), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(x, kept)


def test_point_convolution_as_a_product():
    layer, x = PointConvolution(6, 5), torch.randn(2, 6, 3, 4)
    expected = F.conv2d(x, layer.weight, layer.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


def test_blend_leaves_still_images_to_the_last_bit():
    made = Blend()
    nn.init.constant_(made.logit, 0.7)
    spatial, temporal = torch.randn(4, 3), torch.randn(4, 3)
    share = torch.tensor(0.7).sigmoid()
    torch.testing.assert_close(made(spatial, temporal), share * spatial + (1 - share) * temporal)
    still = torch.tensor([[True], [False], [True], [False]])
    blended = made(spatial, temporal, still)
    assert torch.equal(blended[::2], spatial[::2])
    assert not torch.equal(blended[1::2], spatial[1::2])
