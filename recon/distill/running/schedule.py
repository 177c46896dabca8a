"""The schedule's options as the objects that a step uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.configs.schema.distill_stages import (
    CameraOptions,
    GuidanceOptions,
    Number,
    RangeOptions,
    ShotOptions,
    StageOptions,
)
from viewtime.errors import UserError

from ..camera_sampling import CameraRange, ring, single
from ..fields.scene import Shot
from ..frame_times import interval_times, offset_times, one_of
from ..guidance.base import Draws, Rendered
from ..objectives import Objective, OneStep, Reconstruction, Sds, Vsd
from ..scalars import Ramp, Scalar, TimestepRange, value_at
from ..teacher import Teacher

INSTANTS = 16  # among which the one of a picture is drawn


def scalar(value: Number, where: str = "a scheduled number") -> Scalar:
    """A number, or [start, first, last, end].

    Raises:
        UserError: a list of another length, or one that ends before it starts.
    """
    if not isinstance(value, tuple):
        return float(value)
    if len(value) != 4 or value[3] <= value[0]:
        raise UserError(f"{where} is {list(value)}; a number, or [start, first, last, end] with end after start")
    return Ramp(int(value[0]), value[1], value[2], int(value[3]))


def timestep_range(options: RangeOptions) -> TimestepRange:
    """From which timesteps a guidance draws."""
    o = options
    return TimestepRange(
        scalar(o.low, "low"), scalar(o.high, "high"), switch=o.switch or None, high_after=o.high_after
    )  # fmt: skip


def make_objective(options: GuidanceOptions) -> Objective:
    """The loss that a guidance's options name."""
    o, timesteps = options, timestep_range(options.range)
    form = "A" if o.form == "a" else "B"
    if o.loss == "sds":
        return Sds(o.scale, form, o.weighting, motion=o.motion, timesteps=timesteps)
    if o.loss == "reconstruction":
        return Reconstruction(o.scale, form, o.rescale, timesteps=timesteps)
    if o.loss == "vsd":
        return Vsd(o.scale, timesteps=timesteps)
    return OneStep(o.scale, form, o.steps, color="color" in o.weight, timesteps=timesteps)


@dataclass(frozen=True)
class Judge:
    """A teacher, the weights of its losses, and the images that it does not see (see `GuidanceOptions.front_only`)."""

    teacher: Teacher
    weight: dict[str, Scalar]
    front_only: float = 180.0

    def during(self, timesteps: TimestepRange) -> Judge:
        """The same with another range of timesteps."""
        objective = replace(self.teacher.objective, timesteps=timesteps)
        return replace(self, teacher=replace(self.teacher, objective=objective))

    def losses(self, rendered: Rendered, step: int, draws: Draws) -> tuple[dict[str, Tensor], Tensor]:
        """Unweighted losses by name, and their weighted sum."""
        if self.front_only < 180:
            azimuth = torch.stack([cameras.azimuth[:, 0] for cameras in rendered.cameras])
            scenes, views = ((torch.remainder(azimuth + 180, 360) - 180).abs() < self.front_only).nonzero().unbind(1)
            if not len(scenes):
                return {}, rendered.color.new_zeros(())
            rendered = rendered.select(scenes, views)
        losses = self.teacher.losses(rendered, step, draws)
        unknown = set(losses) ^ set(self.weight)
        if unknown:
            raise UserError(
                f"guidance {self.teacher.guidance.traits.name}: weights are needed for {', '.join(losses)}, "
                f"given are {', '.join(self.weight)}"
            )
        total = sum((value_at(self.weight[name], step) * loss for name, loss in losses.items()), start=torch.zeros(()))
        return losses, torch.as_tensor(total)


def camera_range(options: CameraOptions) -> CameraRange:
    """Where a step may look from."""
    o = options
    return CameraRange(
        o.distance, o.fov_y, o.elevation, o.azimuth, relative=o.relative, zoom=o.zoom, spread_azimuths=o.spread
    )  # fmt: skip


def draw_shot(options: ShotOptions, bounds: CameraRange, moving: bool, step: int, draws: Draws) -> Shot:
    """Cameras and instants of a step."""
    place = sum(step >= at for at in options.at_steps)
    if place >= len(options.sizes):
        raise UserError(f"{len(options.at_steps)} at_steps need {len(options.at_steps) + 1} sizes")
    height, width, scenes = options.sizes[place]
    one = ring(bounds, scenes, options.views, draws) if options.views > 1 else single(bounds, scenes, draws)
    frames = options.frames
    cameras = tuple(
        Cameras(c.elevation.expand(-1, frames), c.azimuth.expand(-1, frames), c.distance.expand(-1, frames), c.fov_y)
        for c in one
    )
    if not moving:
        return Shot(cameras, torch.zeros(frames, dtype=torch.float64), height, width)
    u = draws.uniform("times", 2).tolist()
    count = frames if frames > 1 else INSTANTS
    times = offset_times(u[0], count) if options.times == "offset" else interval_times(u[0], u[1], count)
    if frames == 1:
        times = one_of(times, draws.uniform("instant", 1).item())
    return Shot(cameras, times, height, width)


def used_shots(stage: StageOptions) -> dict[str, ShotOptions]:
    """The shots that a stage will make."""
    return {name: shot for name, shot in stage.shots.items() if shot.probability != 0} if stage.steps else {}


def used_guidances(stages: Iterable[StageOptions]) -> list[str]:
    """Names of the guidances that stages use, in the order of use; the user's picture is none."""
    shots = [shot for stage in stages for shot in used_shots(stage).values()]
    return list(dict.fromkeys(name for shot in shots for name in shot.guidances if name != "reference"))


def choose_shots(stage: StageOptions, draws: Draws) -> list[str]:
    """Names of the shots of a step: one among those with a probability, and all without."""
    always = [name for name, shot in stage.shots.items() if shot.probability is None]
    chances = {name: shot.probability for name, shot in stage.shots.items() if shot.probability is not None}
    if not chances:
        return always
    u = draws.uniform("shot", 1).item() * sum(chances.values())
    for name, chance in chances.items():
        u -= chance
        if u < 0:
            return [name, *always]
    return [name, *always]


def check_stage(name: str, stage: StageOptions, cameras: set[str], guidances: set[str]) -> None:
    """Raise UserError for a stage that names what there is not, or whose probabilities are no shares of 1."""
    if not stage.shots:
        raise UserError(f"stage {name} has no shots")
    chances = [shot.probability for shot in stage.shots.values() if shot.probability is not None]
    total = sum(chances)
    if chances and abs(total - 1) > 1e-6:
        raise UserError(f"stage {name}: the probabilities of its shots add up to {total:g}, not to 1")
    if set(stage.ranges) - guidances:
        raise UserError(f"stage {name}: ranges of {', '.join(sorted(set(stage.ranges) - guidances))}: no such guidance")
    for shot_name, shot in stage.shots.items():
        for what, wanted, known in (
            ("cameras", {shot.cameras}, cameras),
            ("guidances", set(shot.guidances), guidances | {"reference"}),
        ):
            if wanted - known:
                raise UserError(
                    f"stage {name}, shot {shot_name}: no {what} named {', '.join(sorted(wanted - known))}; there are "
                    f"{', '.join(sorted(known)) or 'none'}"
                )
