"""Where more Gaussians are needed: those with the largest position gradient are split (3DGS, section 5.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .canonical import Gaussians

SPLIT_SHARE = 0.2
SHRINK = math.log(1.6)  # 3DGS divides the size of both halves by 1.6
LAST_SHARE = 0.6  # of the dynamic stage; afterwards the Gaussians only settle


class Densifier:
    """Collects gradients between rounds and names the Gaussians to split; knows nothing of rendering.

    Args:
        rounds: how often Gaussians are split.
        iterations: of the dynamic stage, over whose first 60 % the rounds are spread.
        count: Gaussians at the start.
        device: where they are.
    """

    def __init__(self, rounds: int, iterations: int, count: int, device: torch.device | str = "cpu") -> None:
        self.due_at = {max(1, round((k + 1) / (rounds + 1) * LAST_SHARE * iterations)) for k in range(rounds)}
        self.gradient = torch.zeros(count, device=device)

    def observe(self, gradient: Tensor | None) -> None:
        """Add one step's position gradient [N, 3]."""
        if gradient is not None:
            self.gradient += gradient.norm(dim=1)

    def select(self, parents: Tensor) -> None:
        """Follow the Gaussians through pruning and splitting."""
        self.gradient = self.gradient[parents]

    def split(self) -> Tensor:
        """Indices [M] of the Gaussians to split; starts collecting anew."""
        chosen = self.gradient.topk(max(1, round(SPLIT_SHARE * len(self.gradient)))).indices
        self.gradient = torch.zeros_like(self.gradient)
        return chosen


@torch.no_grad()
def separate(gaussians: Gaussians, first: Tensor, second: Tensor, generator: torch.Generator) -> None:
    """Move the two halves [M], [M] of each split Gaussian apart by a draw from it, and shrink both."""
    size = gaussians.log_scale.exp().mean(dim=1, keepdim=True)[first]
    offset = size * torch.randn(len(first), 3, generator=generator).to(size.device)
    gaussians.position[first] += offset
    gaussians.position[second] -= offset
    gaussians.log_scale[first] -= SHRINK
    gaussians.log_scale[second] -= SHRINK
