"""Weights in 8 bits: their values by hand, and what is left alone."""

import pytest
import torch
from torch import nn

from viewtime.errors import UserError
from viewtime.model.eight_bits import EightBits, held_in_eight_bits, hold_in_eight_bits
from viewtime.model.full_precision import FullPrecisionLinear, weight_dtype
from viewtime.model.sv4d.convolution import ImageConvolution, SequenceConvolution
from viewtime.model.sv4d.linear import Linear
from viewtime.sample.models.loading import load_model

HALVES = (torch.float16, torch.bfloat16, torch.float32)


def test_the_steps_of_a_weight_by_hand():
    weight = torch.tensor([[254.0, -127.0, 3.0, 0.9], [0.0, 0.0, 0.0, 0.0], [-1.0, 0.5, 0.25, 1 / 127]])
    steps, largest = EightBits().right_inverse(weight)
    assert steps.tolist() == [[127, -64, 2, 0], [0, 0, 0, 0], [-127, 64, 32, 1]]  # a half goes to the even step
    assert largest.flatten().tolist() == [254.0, 0.0, 1.0]
    back = EightBits()(steps, largest)
    torch.testing.assert_close(back[0], torch.tensor([254.0, -128.0, 4.0, 0.0]))
    assert back[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Linear(48, 40), (3, 48)),
        (ImageConvolution(24, 40), (2, 24, 6, 5)),
        (SequenceConvolution(24, 40), (2, 24, 4, 9)),
    ],
)
@torch.no_grad()
def test_a_layer_computes_with_the_rounded_weight_in_its_own_format(layer, shape, dtype):
    layer = type(layer)(shape[1], 40).to(dtype)
    plain = layer.weight.detach().clone()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    hold_in_eight_bits(layer, smallest=1)
    assert {p.dtype for p in layer.parameters()} == {dtype, torch.int8}
    assert weight_dtype(layer) == dtype
    limit = plain.float().abs().flatten(1).amax(1) * (0.5 / 127 + 4 * torch.finfo(dtype).eps)
    assert bool(((layer.weight.float() - plain.float()).abs().flatten(1).amax(1) <= limit).all())
    twin = type(layer)(shape[1], 40).to(dtype)
    twin.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    assert torch.equal(layer(x), twin(x))


def test_small_layers_and_embeddings_stay_and_the_rest_takes_half():
    module = nn.Sequential(Linear(256, 256), Linear(8, 8), FullPrecisionLinear(256, 256), nn.LayerNorm(8)).half()
    before = sum(p.numel() * p.element_size() for p in module[0].parameters())
    hold_in_eight_bits(module)
    assert [held_in_eight_bits(part) for part in module] == [True, False, False, False]
    after = sum(p.numel() * p.element_size() for p in module[0].parameters())
    assert after < 0.51 * before
    assert not any(p.requires_grad for p in module[0].parameters() if p.dtype == torch.int8)


def test_a_small_model_refuses_them():
    with pytest.raises(UserError, match=r"--int8 is for models of gigabytes, not for mini\.safetensors"):
        load_model("mini", torch.device("cpu"), int8=True)
