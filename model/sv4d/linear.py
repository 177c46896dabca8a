"""The matrix product of every linear layer of the UNet, by the faster library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times weight [N, K], plus bias [N] -> [..., N].

    On a CPU, PyTorch multiplies float32 by BLAS. oneDNN, which it carries for convolutions, needs 5 to 35 % less time
    for the few rows and many columns of this network (benchmarks/sv4d_forward.py), but has no gradient.
    """
    if _by_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def add_product(total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """total [..., N] plus x [..., K] times weight [N, K], added where the product is written.

    Without gradients alone, and what `total` held is lost.
    """
    if _by_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise.binary(x, total, weight, None, "add")
    if torch.is_autocast_enabled(x.device.type) or not total.dtype == x.dtype == weight.dtype:
        return total + F.linear(x, weight)
    total = total.contiguous()
    total.view(-1, total.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), weight.t())
    return total


def products(x: Tensor, layers: Sequence[nn.Module]) -> Sequence[Tensor]:
    """What layers without biases make of the same x [..., K].

    Without gradients a GPU reads x once, for all their weights together; a CPU would gain nothing.
    """
    if x.device.type == "cpu" or torch.is_grad_enabled() or not all(isinstance(layer, Linear) for layer in layers):
        return [layer(x) for layer in layers]
    weight = torch.cat([cast(Tensor, layer.weight) for layer in layers])
    return F.linear(x, weight).split([len(cast(Tensor, layer.weight)) for layer in layers], dim=-1)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


class Linear(nn.Linear):
    """A linear layer by `product`."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        return product(input, self.weight, self.bias)
