"""The radiance fields of both papers: a hash grid over space, and one over space and time beside it or before it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from viewtime.configs.schema.distill_scene import FieldOptions
from viewtime.recon.nerf.levels import Levels

from ..density import blob_bias, density, warped
from .motion import Displacement, motion_levels
from .networks import HashGrid, perceptron


class Sample(NamedTuple):
    """Density [M] per world unit; colour [M, 3] in (0, 1); displacement [M, 3] in edges of the cube, 0 where none."""

    density: Tensor
    colour: Tensor
    displacement: Tensor


class HashField(nn.Module):
    """Density and colour at world points [-1, 1]³ and instants in [0, 1].

    With motion "grid" the features are f(x, y, z) + g(x, y, z, t) (4D-fy, section 3.1); with "offset" and "warp" the
    grid over space is asked at a displaced point.

    Attributes:
        moving: off in static stages: the displacement is left out, and g is asked at t = 0.
        spread: of the blob that the density starts as, see `blob_bias`.
    """

    def __init__(self, options: FieldOptions) -> None:
        super().__init__()
        o = self.options = options
        self.static = HashGrid(Levels.tiny_cuda_nn(o.levels, o.coarsest, o.growth, o.log2_table), o.features)
        self.density_network = perceptron(self.static.width, o.width, 1, 1)
        self.colour_network = perceptron(self.static.width, o.width, 1, 3)
        self.dynamic: HashGrid | None = None
        self.displacement: Displacement | None = None
        if o.motion == "grid":
            levels = motion_levels(o)
            if len(levels) * o.features != self.static.width:
                raise ValueError(f"{len(levels)} levels in time and {o.levels} in space cannot be added")
            self.dynamic = HashGrid(levels, o.features)
        else:
            self.displacement = Displacement(o, squashed=o.motion == "warp")
        self.moving = False
        self.spread = 0.5

    def forward(self, points: Tensor, times: Tensor, *, with_colour: bool = True) -> Sample:
        """World points [M, 3] at instants [M]."""
        unit = (points + 1) / 2
        moved = torch.zeros_like(unit)
        at = times if self.moving else torch.zeros_like(times)
        if self.displacement is not None and self.moving:
            moved = self.displacement(torch.cat([unit, at[:, None]], dim=1))
            unit = warped(unit, moved, self.options.enlarge) if self.options.motion == "warp" else unit + moved
        features = self.static(unit)
        if self.dynamic is not None:
            features = features + self.dynamic(torch.cat([unit, at[:, None]], dim=1))
        raw = self.density_network(features)
        found = density(raw, blob_bias(2 * unit - 1, self.spread))[:, 0]
        colour = self.colour_network(features).sigmoid() if with_colour else features[:, :3]
        return Sample(found, colour, moved)

    def advance(self, step: int) -> None:
        """The state of the schedules at a step of the stage."""
        if self.displacement is not None:
            self.displacement.advance(step)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the names that the schedules use: static, networks, and dynamic or motion networks."""
        groups = {
            "static": list(self.static.parameters()),
            "networks": [*self.density_network.parameters(), *self.colour_network.parameters()],
        }
        if self.dynamic is not None:
            groups["dynamic"] = list(self.dynamic.parameters())
        if self.displacement is not None:
            groups["dynamic"] = list(self.displacement.encoding.parameters())
            groups["motion_network"] = list(self.displacement.network.parameters())
        return groups
