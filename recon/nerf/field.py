"""The radiance field over space and time: Ψ(x, t) = (σ, c) of x + Δx(x, t) in the canonical volume (SV4D 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from viewtime.configs.schema.reconstruct_nerf import NerfOptions

from .deformation import Deformation, make_deformation
from .encoding import encode
from .frame_grids import FrameGrids
from .levels import Levels

START_DENSITY = 20.0  # per world unit: a body 0.1 thick lets a seventh of the light through
LARGEST_LOG_DENSITY = 9.0


class CanonicalField(nn.Module):
    """Multi-resolution hash grid (Instant-NGP) with a density and a colour MLP; no view direction, as in SV4D.

    Args:
        extra: channels of further features that the density MLP gets beside the grid's.
    """

    def __init__(self, options: NerfOptions, extra: int) -> None:
        super().__init__()
        self.levels = Levels.geometric(
            options.levels, options.coarsest_resolution, options.finest_resolution, 1 << options.log2_table
        )
        self.table = nn.Parameter(1e-2 * (2 * torch.rand(self.levels.entries, options.features) - 1))
        width = options.width
        self.density_network = nn.Sequential(
            nn.Linear(options.levels * options.features + extra, width), nn.ReLU(), nn.Linear(width, 16)
        )
        self.colour_network = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, unit: Tensor, extra: Tensor | None, with_colour: bool = True) -> tuple[Tensor, Tensor]:
        """Points [M, 3] in the unit cube -> density [M] per world unit and colour [M, 3] in (0, 1)."""
        features = encode(unit, self.table, self.levels)
        if extra is not None:
            features = torch.cat([features, extra], dim=1)
        code = self.density_network(features)
        density = START_DENSITY * torch.exp(code[:, 0].clamp(max=LARGEST_LOG_DENSITY))
        return density, torch.sigmoid(self.colour_network(code)) if with_colour else code[:, :3]


class DynamicField(nn.Module):
    """Canonical field, deformation, and a small remainder per frame for what no deformation explains.

    Attributes:
        low, side: the cube that holds the object at all instants, world units.
        moving: off during the static stage: no deformation and no remainder.
    """

    def __init__(self, options: NerfOptions, frames: int, low: Tensor, side: float) -> None:
        super().__init__()
        self.frames, self.side, self.moving = frames, side, False
        self.low: Tensor
        self.register_buffer("low", low.clone())
        self.remainder = None
        if options.remainder_features:
            levels = Levels.of([options.remainder_resolution], 1 << options.remainder_log2_table)
            self.remainder = FrameGrids(frames, levels, options.remainder_features)
        self.canonical = CanonicalField(options, options.remainder_features)
        self.deformation: Deformation = make_deformation(options, frames)

    def at(self, times: Tensor) -> Instant:
        """The field at K instants (frame numbers, whole or in between)."""
        return Instant(self, times)


class Instant:
    """The field at K instants; per-frame tables are gathered once."""

    def __init__(self, field: DynamicField, times: Tensor) -> None:
        self.field = field
        self.displace = field.deformation.at(times) if field.moving else None
        self.table = field.remainder.at(times) if field.remainder is not None and field.moving else None

    def __call__(self, points: Tensor, slot: Tensor, with_colour: bool = True) -> tuple[Tensor, Tensor]:
        """World points [M, 3] at instant slot[m] -> density [M], colour [M, 3]."""
        field = self.field
        unit = (points - field.low) / field.side
        canonical = unit if self.displace is None else unit + self.displace(unit, slot)
        extra = None
        if field.remainder is not None:
            if self.table is None:
                extra = unit.new_zeros(len(unit), field.remainder.channels)
            else:
                extra = encode(unit, self.table, field.remainder.levels, slot)
        return field.canonical(canonical, extra, with_colour)
