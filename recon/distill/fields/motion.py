"""Displacements out of a grid over space and time, with levels that open one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from viewtime.configs.schema.distill_scene import FieldOptions
from viewtime.recon.nerf.levels import Levels

from ..density import squashed_displacement
from ..scalars import open_levels
from .networks import HashGrid, Waves, perceptron


def motion_levels(options: FieldOptions) -> Levels:
    """Of the grid over space and time."""
    o = options
    return Levels.tiny_cuda_nn(o.motion_levels, o.motion_coarsest, o.growth, o.log2_table, dimensions=4)


class Displacement(nn.Module):
    """Points of the unit cube at instants in [0, 1], [N, 4] -> displacement [N, 3] in edges of the cube.

    Dream-in-4D (section 3.2 and its code) squashes it to (-1, 1); 4D-fy's variant does not.

    Attributes:
        open: how many levels of the grid are on; inactive features are multiplied by 0.
    """

    def __init__(self, options: FieldOptions, *, squashed: bool) -> None:
        super().__init__()
        self.options, self.squashed = options, squashed
        hashed = options.motion_input == "hash"
        self.encoding = HashGrid(motion_levels(options), options.features) if hashed else Waves()
        self.network = perceptron(self.encoding.width, options.width, options.motion_layers, 3)
        self.open = options.motion_levels
        self.advance(0)

    def advance(self, step: int) -> None:
        """The state of the schedule at a step of the stage."""
        o = self.options
        if o.first_levels and o.motion_input == "hash":
            self.open = open_levels(step, o.motion_levels, o.first_levels, o.level_every)

    def forward(self, points: Tensor) -> Tensor:
        features = self.encoding(points)
        if self.open < self.options.motion_levels:
            on = torch.arange(features.shape[1], device=features.device) < self.open * self.options.features
            features = features * on
        raw = self.network(features)
        return squashed_displacement(raw) if self.squashed else raw
