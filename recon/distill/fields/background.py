"""What is seen past the object: an MLP over the direction, white, or one random colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from viewtime.configs.schema.distill_scene import BackgroundOptions

from ..guidance.base import Draws
from .networks import perceptron


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Real spherical harmonics of bands 0, 1 and 2 of unit directions, [N, 3] -> [N, 9], orthonormal on the sphere."""
    x, y, z = directions.unbind(-1)
    one, half = math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
    columns = [
        torch.full_like(x, math.sqrt(1 / (4 * math.pi))),
        -one * y, one * z, -one * x,
        half * x * y, -half * y * z, math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1), -half * x * z,
        half / 2 * (x * x - y * y),
    ]  # fmt: skip
    return torch.stack(columns, dim=-1)


class Background(nn.Module):
    """Colour of directions [N, 3] -> [N, 3] in [0, 1]."""

    def __init__(self, options: BackgroundOptions) -> None:
        super().__init__()
        self.options = options
        self.network = perceptron(9, options.width, options.layers, 3) if options.kind == "learned" else None

    def forward(self, directions: Tensor) -> Tensor:
        if self.network is None:
            return torch.ones_like(directions)
        return self.network(spherical_harmonics(directions)).sigmoid()

    def replacement(self, frames: int, draws: Draws) -> Tensor:
        """The colour that each frame of a batch is shown over instead, [F, 3]; NaN where the background stays."""
        count = frames if self.options.per_frame else 1
        chosen = draws.uniform("background", count) < self.options.random
        colour = draws.uniform("background_colour", 3 * count).reshape(count, 3)
        return torch.where(chosen[:, None], colour, torch.nan).float().expand(frames, 3)
