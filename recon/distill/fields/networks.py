"""Hash grids and MLPs as the published fields have them (tiny-cuda-nn's layout, no biases)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from viewtime.recon.nerf.encoding import encode
from viewtime.recon.nerf.levels import Levels

START = 1e-4
SPACE_OCTAVES, TIME_OCTAVES = 4, 4


class HashGrid(nn.Module):
    """Features of points in the unit cube of `levels.dimensions` dimensions, [N, D] -> [N, L · C]."""

    def __init__(self, levels: Levels, features: int) -> None:
        super().__init__()
        self.levels = levels
        self.table = nn.Parameter(START * (2 * torch.rand(levels.entries, features) - 1))
        self.width = len(levels) * features

    def forward(self, points: Tensor) -> Tensor:
        return encode(points, self.table, self.levels)


class Waves(nn.Module):
    """Sines of position and time instead of a grid: [N, 4] of the unit cube -> [N, 4 + 2 · (3 · 4 + 4)]."""

    width = 4 + 2 * (3 * SPACE_OCTAVES + TIME_OCTAVES)

    def forward(self, points: Tensor) -> Tensor:
        centred = 2 * points - 1
        angles = [
            (centred[:, axes, None] * (math.pi * 2.0 ** torch.arange(octaves, device=points.device))).flatten(1)
            for axes, octaves in ((slice(0, 3), SPACE_OCTAVES), (slice(3, 4), TIME_OCTAVES))
        ]
        angle = torch.cat(angles, dim=1)
        return torch.cat([centred, angle.sin(), angle.cos()], dim=1)


def perceptron(inputs: int, width: int, hidden: int, outputs: int) -> nn.Sequential:
    """`hidden` hidden layers of `width` neurons with ReLU, no biases anywhere."""
    sizes = [inputs] + [width] * hidden
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs, bias=False))
