"""Synchronisation layers between the two token streams (section 3.2.4).

The paper's text and its figure 2 give the letters v and t to opposite streams. Here the streams carry names: the
*time stream* attends along rows (a view over time), the *view stream* along columns (an instant over views).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.model.full_precision import FullPrecisionLinear


def ramp_weight(layer: int, depth: int) -> float:
    """w_l = 0.1 + 0.4 l / L, the exchange of Eq. 13 for layer l = 1 ... L."""
    return 0.1 + 0.4 * layer / depth


class ModulatedLinear(nn.Module):
    """A linear layer without bias whose input weights are scaled by the noise level: y -> W ((1 + s(sigma)) * y).

    s starts at zero: a fresh layer is the plain linear layer.
    """

    def __init__(self, inputs: int, outputs: int, condition_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.modulation = FullPrecisionLinear(condition_width, inputs)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, y: Tensor, condition: Tensor) -> Tensor:
        """y [..., P, inputs], condition [..., D] (embedding of sigma per frame) -> [..., P, outputs]."""
        scale = self.modulation(F.silu(condition)).to(y.dtype)[..., None, :]
        return F.linear(y * (1 + scale), self.weight)


class HardSynchronisation(nn.Module):
    """Both streams become W^v y^v + W^t y^t (Eq. 8); W^v = W^t = I / 2 before training, which is Eq. 12."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = ModulatedLinear(2 * width, width, width)
        with torch.no_grad():
            self.mix.weight.copy_(torch.cat([torch.eye(width), torch.eye(width)], dim=1) / 2)

    def forward(self, time: Tensor, view: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """time, view [B, V, F, P, D], condition [B, V, F, D] -> the same tokens twice."""
        merged = self.mix(torch.cat([time, view], dim=-1), condition)
        return merged, merged


class SoftSynchronisation(nn.Module):
    """Each stream gets its own update, linear in both (Eq. 9-10).

    Args:
        exchange: w of Eq. 13 before training: each stream moves by w towards the other. 0 leaves them apart.
    """

    def __init__(self, width: int, exchange: float) -> None:
        super().__init__()
        self.update = ModulatedLinear(2 * width, 2 * width, width)
        difference = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
        with torch.no_grad():
            self.update.weight.copy_(exchange * torch.kron(difference, torch.eye(width)))

    def forward(self, time: Tensor, view: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """time, view [B, V, F, P, D], condition [B, V, F, D] -> (time, view)."""
        delta_time, delta_view = self.update(torch.cat([time, view], dim=-1), condition).chunk(2, dim=-1)
        return time + delta_time, view + delta_view
