"""The matrix product of every linear layer of the UNet, by the faster library."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times weight [N, K], plus bias [N] -> [..., N].

    On a CPU, PyTorch multiplies float32 by BLAS. oneDNN, which it carries for convolutions, needs 5 to 35 % less time
    for the few rows and many columns of this network (benchmarks/sv4d_forward.py), but has no gradient.
    """
    onednn = (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
    if onednn:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer by `product`."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        return product(input, self.weight, self.bias)
