"""Weights held as 8-bit integers with a scale for each output channel, widened layer by layer as they are used.

A network takes half of its memory, on the card and on its way there. What it computes in stays its format. What the
rounding loses is measured by benchmarks/precision.py, what it saves by benchmarks/gpu_cost.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from viewtime.errors import UserError
from viewtime.model.full_precision import FullPrecisionLinear

STEPS = 127
SMALLEST = 1 << 16  # weights of a layer that is worth it; the first and the last layer of a network are below it


class EightBits(nn.Module):
    """The parametrization: a weight [out, …] as int8 of its shape and the largest magnitude of each output channel."""

    def forward(self, steps: Tensor, largest: Tensor) -> Tensor:
        """int8 [out, …] and [out, 1, …] -> the weight, in the format of `largest`."""
        return (steps.to(largest.dtype) / STEPS) * largest

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest of 255 values; an output channel of zeros stays zero."""
        wide = weight.float()
        largest = wide.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).to(weight.dtype)
        share = wide / largest.float().clamp_min(torch.finfo(weight.dtype).tiny)
        return (share * STEPS).round().clamp(-STEPS, STEPS).to(torch.int8), largest


def large_layers(module: nn.Module, smallest: int = SMALLEST) -> list[nn.Module]:
    """The linear layers and convolutions of a module with so many weights.

    Without those that compute in float32 whatever the network is held in (`FullPrecisionLinear`).
    """
    layers = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d, nn.Conv3d))]
    return [part for part in layers if part.weight.numel() >= smallest and not isinstance(part, FullPrecisionLinear)]


def hold_in_eight_bits(module: nn.Module, smallest: int = SMALLEST) -> nn.Module:
    """Hold the `large_layers` of a module in 8 bits, in place; for inference alone."""
    for layer in large_layers(module, smallest):
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", EightBits(), unsafe=True)
    return module


def held_in_eight_bits(module: nn.Module) -> bool:
    """Whether any layer of a module is."""
    return any(isinstance(part, EightBits) for part in module.modules())


def state_to_save(module: nn.Module) -> dict[str, Tensor]:
    """The state dict.

    Raises:
        UserError: the weights are held in 8 bits.
    """
    if held_in_eight_bits(module):
        raise UserError("weights held in 8 bits have lost digits and are not saved; load them without int8")
    return module.state_dict()
