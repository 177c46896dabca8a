"""A hash field by volume rendering (section 2 of both papers): voxels say where to look, thin samples are left out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from viewtime.configs.schema.distill_scene import BackgroundOptions, FieldOptions, RenderOptions
from viewtime.recon.nerf.marching import march
from viewtime.recon.nerf.rendering import Rays, composite

from ..guidance.base import Draws
from .background import Background
from .hash_field import HashField, Sample
from .occupancy import SIDE, RunningOccupancy
from .scene import Plan, Scene, Shot

DIAGONAL = 1.732  # of the cube's edge, as threestudio has it
DARK = 1e-4  # a sample that gets less of the light is left out
AT_ONCE = 1 << 24  # samples in one call of the networks: a layer's values stay below the 2³¹ that CUDA indexes plainly


class _Held(NamedTuple):
    """Of a plan: the rays of all pixels, where in a step each starts, the frames' instants [F] and replacements."""

    rays: Rays
    jitter: Tensor
    times: Tensor
    per_part: int


class VolumeScene(Scene):
    """See `Scene`; the parts of a shot are groups of rays."""

    def __init__(self, field: FieldOptions, background: BackgroundOptions, options: RenderOptions) -> None:
        super().__init__()
        self.options = options
        self.field = HashField(field)
        self.background = Background(background)
        self.step_length = DIAGONAL * SIDE / options.samples
        self.occupancy = RunningOccupancy(options.occupancy, self.step_length)
        self.samples = 0

    @property
    def moving(self) -> bool:
        return self.field.moving

    @moving.setter
    def moving(self, on: bool) -> None:
        self.field.moving = on

    def advance(self, step: int, spread: float) -> None:
        self.field.spread = spread
        self.field.advance(step)

    def look_around(self, step: int, draws: Draws) -> None:
        o = self.options
        if step % o.occupancy_every:
            return
        several = torch.linspace(0, 1, o.occupancy_times)
        times = several if o.occupancy_times > 1 else draws.uniform("occupancy_time", 1)

        def density(points: Tensor, instants: Tensor) -> Tensor:
            return self.sampled(points, instants, with_colour=False).density

        self.occupancy.update(density, times if self.moving else torch.zeros(1), step, draws)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return self.field.groups() | {"background": list(self.background.parameters())}

    def plan(self, shot: Shot, draws: Draws, *, training: bool = True) -> Plan:
        device = self.occupancy.estimate.device
        B, V, F = shot.grid
        directions = rearrange(shot.directions(), "b v f h w c -> (b v f h w) c")
        pixels = shot.height * shot.width
        origins = repeat(shot.origins(), "b v f c -> (b v f n) c", n=pixels)
        slot = repeat(torch.arange(F), "f -> (b v f n)", b=B, v=V, n=pixels)
        rays = Rays(origins.to(device), directions.to(device), slot.to(device))
        jitter = draws.uniform("jitter", len(rays)).float() if training else torch.full((len(rays),), 0.5)
        per_part = self.options.at_once or len(rays)
        held = _Held(rays, jitter.to(device), shot.times.float().to(device), per_part)
        return Plan(shot, -(-len(rays) // per_part), self.replacement(shot, draws, training).to(device), held)

    def draw(self, plan: Plan, part: int) -> Tensor:
        held: _Held = plan.held
        chosen = slice(part * held.per_part, (part + 1) * held.per_part)
        rays, jitter = held.rays[chosen], held.jitter[chosen]
        block = self.occupancy.block()
        block = type(block)(block.occupied, block.density, block.low.to(rays.origins), block.side)
        first = torch.zeros_like(rays.slot)
        times, valid = march(
            block, rays.origins, rays.directions, first, jitter, self.step_length, self.options.samples
        )
        valid = self._worth(rays, times, valid, held.times)
        self.samples = int(valid.sum()) if valid.device.type == "cpu" else self.samples

        def field(points: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
            sample = self.sampled(points, held.times[slot])
            return sample.density, torch.cat([sample.colour, sample.displacement], dim=1)

        picture = composite(field, rays, times, valid, self.step_length)
        behind = self.behind(rays.directions, plan.replacement[rays.slot])
        return torch.cat([picture.rgb[:, :3], picture.alpha[:, None], behind, picture.rgb[:, 3:]], dim=1)

    def sampled(self, points: Tensor, instants: Tensor, *, with_colour: bool = True) -> Sample:
        """The field at world points [M, 3] and instants [M], some at a time."""
        parts = [
            self.field(place, when, with_colour=with_colour)
            for place, when in zip(points.split(AT_ONCE), instants.split(AT_ONCE))
        ]
        return parts[0] if len(parts) == 1 else Sample(*(torch.cat(values) for values in zip(*parts)))

    @torch.no_grad()
    def _worth(self, rays: Rays, times: Tensor, valid: Tensor, instants: Tensor) -> Tensor:
        """The samples that stop enough light and get any, after a look at the density alone."""
        limit = min(self.options.thin, self.occupancy.least)
        if limit <= 0 or not valid.any():
            return valid
        R, S = times.shape
        place = valid.flatten().nonzero().flatten()
        ray = place.div(S, rounding_mode="floor")
        points = rays.origins[ray] + times.flatten()[place, None] * rays.directions[ray]
        found = self.sampled(points, instants[rays.slot[ray]], with_colour=False).density * self.step_length
        optical = torch.zeros(R * S, device=found.device).scatter(0, place, found).view(R, S)
        stopped = -torch.expm1(-optical)
        reaching = torch.exp(optical - optical.cumsum(dim=1))
        return valid & (stopped >= limit) & (reaching >= DARK)
