"""Sinusoidal embeddings of numbers, and the two-layer networks that follow them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.model.full_precision import FullPrecisionLinear


def sinusoidal(values: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed numbers: cosines first, then sines, of `values * max_period^(-i / (dim / 2))`.

    Args:
        values: any shape [...]; taken to float32 before anything else.

    Returns:
        [..., dim] float32; an odd `dim` ends in a zero.
    """
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(-math.log(max_period) * index / half)
    angle = values.float()[..., None] * frequencies
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=-1), (0, dim % 2))


class EmbeddingMLP(nn.Module):
    """Linear, SiLU, Linear on the last axis, in float32 whatever the dtype of input and weights."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int):
        super().__init__()
        self.expand = FullPrecisionLinear(in_dim, hidden_dim)
        self.contract = FullPrecisionLinear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.silu(self.expand(x)))
