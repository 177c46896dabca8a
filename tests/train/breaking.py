"""Toy denoisers: one that breaks at chosen calls, one that draws random numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BadBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * torch.nan


class Breaking(nn.Module):
    """A pixel-wise linear denoiser. Calls are counted from 1.

    Args:
        output_at, gradient_at: calls whose output, or gradient, is NaN.
        reduced: insist that the inputs come in float32 although the weights are bfloat16.
    """

    def __init__(self, output_at: list[int] | None = None, gradient_at: list[int] | None = None, reduced: bool = False):
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.calls, self.output_at, self.gradient_at = 0, output_at or [], gradient_at or []
        self.reduced = reduced

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Tensor]) -> Tensor:
        if self.reduced:
            assert self.mix.weight.dtype == torch.bfloat16
            assert {x.dtype, sigma.dtype, cond["azimuth"].dtype} == {torch.float32}
        self.calls += torch.is_grad_enabled()  # the count of FLOPs runs without
        mixed = self.mix(x.movedim(3, -1)).movedim(-1, 3)
        if self.calls in self.gradient_at:
            mixed = BadBackward.apply(mixed)
        return mixed * (torch.nan if self.calls in self.output_at else 1.0)


class Noisy(nn.Module):
    """A pixel-wise linear denoiser that draws random numbers, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return self.mix(x.movedim(3, -1)).movedim(-1, 3) + 0.1 * torch.randn(x.shape)
