"""Linear layers that compute in float32 whatever the network around them is held in.

Noise levels, camera angles and the places of frames and views reach every layer through a few small products; rounded
there, the whole network answers to another noise level. The published models compute them in half precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from viewtime.model.sv4d.linear import product


class FullPrecisionLinear(nn.Linear):
    """A linear layer in float32, also with weights of half precision and under autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] of any floating dtype -> float32 [..., out_features]."""
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return product(input.float(), self.weight.float(), bias)


def weight_dtype(module: nn.Module) -> torch.dtype:
    """dtype of a module's weights: what its inputs must be cast to outside autocast."""
    return next(weight.dtype for weight in module.parameters() if weight.is_floating_point())


def in_float32(module: nn.Module, *inputs: Tensor) -> Tensor:
    """`module(*inputs)` with float32 copies of weights of half precision, where the values outgrow float16.

    Under autocast, where the weights are float32, nothing changes: training decides for itself.
    """
    if weight_dtype(module) == torch.float32:
        return module(*inputs)
    weights = {name: parameter.float() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, weights, inputs)
