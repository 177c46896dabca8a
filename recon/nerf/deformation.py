"""Where a point at an instant lies in the canonical volume: an MLP over position and time, or a grid per frame."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from viewtime.configs.schema.reconstruct_nerf import NerfOptions

from .encoding import encode
from .frame_grids import FrameGrids
from .levels import Levels

Displace = Callable[[Tensor, Tensor], Tensor]


class Deformation(nn.Module):
    """A backward field: points [M, 3] of the unit cube and their instants -> displacement [M, 3] in cube sides."""

    def at(self, times: Tensor) -> Displace:
        """The displacement at K instants (frame numbers): a function of points [M, 3] and slot [M]."""
        raise NotImplementedError

    def regulariser(self, frames: list[int]) -> Tensor:
        """Smoothness around the given frames; a scalar."""
        raise NotImplementedError

    def enter(self, frame: int, known: int) -> None:
        """A frame enters the fit; `known` is the nearest one fitted already."""

    def anneal(self, share: float) -> None:
        """Progress of the dynamic stage in [0, 1]: from low to high temporal frequencies."""

    def groups(self, rate: float) -> list[dict]:
        """Optimiser groups."""
        raise NotImplementedError


class GridDeformation(Deformation):
    """A displacement grid per frame at two resolutions; smoothness over time is relaxed as the fit goes on."""

    def __init__(self, frames: int, resolutions: tuple[int, ...], smoothness: float, inertia: float) -> None:
        super().__init__()
        self.grids = FrameGrids(frames, Levels.of(resolutions, max(resolutions) ** 3), 3)
        self.smoothness, self.inertia = smoothness, inertia
        self.stiffness = 1.0

    def at(self, times: Tensor) -> Displace:
        tables = self.grids.at(times)
        count = len(self.grids.levels)

        def displace(unit: Tensor, slot: Tensor) -> Tensor:
            return encode(unit, tables, self.grids.levels, slot).unflatten(1, (count, 3)).sum(dim=1)

        return displace

    def regulariser(self, frames: list[int]) -> Tensor:
        tables = torch.stack([self.grids.tables[frame] for frame in frames])
        rough = self.smoothness * self.grids.roughness(tables)
        return rough + self.inertia * self.stiffness * self.grids.acceleration(frames, tables)

    def enter(self, frame: int, known: int) -> None:
        self.grids.copy(known, frame)

    def anneal(self, share: float) -> None:
        self.stiffness = 1.0 + 9.0 * max(0.0, 1.0 - 2.0 * share)

    def groups(self, rate: float) -> list[dict]:
        return [{"params": list(self.grids.parameters()), "lr": 0.2 * rate, "name": "deformation"}]


class MlpDeformation(Deformation):
    """SV4D's MLP_t over sines of position and time; temporal octaves open one after the other (Nerfies, Eq. 8)."""

    def __init__(self, frames: int, width: int, depth: int, space_octaves: int, time_octaves: int) -> None:
        super().__init__()
        self.frames, self.space_octaves, self.time_octaves = frames, space_octaves, time_octaves
        self.open_octaves = 1.0
        inputs = 3 * (1 + 2 * space_octaves) + 1 + 2 * time_octaves
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(inputs, 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def window(self) -> Tensor:
        """Weight of each temporal octave [time_octaves], in [0, 1]."""
        octave = torch.arange(self.time_octaves, device=self.last.weight.device)
        return 0.5 * (1 - torch.cos(math.pi * (self.open_octaves - octave).clamp(0, 1)))

    @staticmethod
    def _waves(value: Tensor, octaves: int) -> Tensor:
        angle = value[..., None] * (math.pi * 2.0 ** torch.arange(octaves, device=value.device))
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def at(self, times: Tensor) -> Displace:
        time = (2.0 * times.to(self.last.weight.device) / max(1, self.frames - 1) - 1.0).float()
        window = self.window().repeat(2)
        moments = torch.cat([time[:, None], self._waves(time, self.time_octaves) * window], dim=-1)

        def displace(unit: Tensor, slot: Tensor) -> Tensor:
            centred = 2 * unit - 1
            space = torch.cat([centred, self._waves(centred, self.space_octaves).flatten(1)], dim=-1)
            return 0.1 * self.last(self.hidden(torch.cat([space, moments[slot]], dim=-1)))

        return displace

    def regulariser(self, frames: list[int]) -> Tensor:
        return self.last.weight.new_zeros(())

    def anneal(self, share: float) -> None:
        self.open_octaves = 1.0 + (self.time_octaves - 1) * min(1.0, 2.0 * share)

    def groups(self, rate: float) -> list[dict]:
        return [{"params": list(self.parameters()), "lr": 0.1 * rate, "name": "deformation"}]


def make_deformation(options: NerfOptions, frames: int) -> Deformation:
    """The deformation that the options name."""
    o = options
    if o.deformation == "mlp":
        return MlpDeformation(frames, o.deformation_width, o.deformation_depth, o.space_octaves, o.time_octaves)
    return GridDeformation(frames, o.deformation_resolutions, o.smoothness, o.inertia)
