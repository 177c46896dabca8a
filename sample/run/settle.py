"""The plan and the sampler of a run: the model's own, with the user's changes, checked."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch

from viewtime.configs.schema.sample import PlanOptions, SamplerOptions
from viewtime.errors import UserError
from viewtime.sample.models.grid_model import ModelTraits, SamplerDefaults
from viewtime.sample.plan.plan import Plan, Problem
from viewtime.sample.plan.plans import make_plan
from viewtime.sample.solver.guidance import Guidance
from viewtime.sample.solver.noise import cell_noise
from viewtime.sample.solver.schedules import Schedule, make_schedule

from .runner import Settings


def settle_plan(traits: ModelTraits, novel_views: int, frames: int, given: frozenset, options: PlanOptions) -> Plan:
    """The plan of a run: the model's own, or, where that is "joint" and the video is longer, sliding windows."""
    for name, wanted, limit in (
        ("views", options.window_views, traits.window_views),
        ("frames", options.window_frames, traits.window_frames),
    ):
        if wanted is not None and wanted > limit:
            raise UserError(f"--plan.window-{name} {wanted}; {traits.name} takes at most {limit}")
    problem = Problem(
        views=1 + novel_views,
        frames=frames,
        window_views=options.window_views or traits.window_views,
        window_frames=options.window_frames or (not options.kind and traits.plan_frames) or traits.window_frames,
        given=given,
        inside=traits.inside,
        reference_stage=traits.needs_reference,
        keep_input=traits.keep_input,
        overlap=options.overlap,
        input_last=traits.input_last,
    )
    kind = options.kind or traits.plan
    if options.kind is None and kind == "joint" and frames > problem.window_frames:
        kind = "sv4d2"
    return make_plan(kind, problem)


def picked(value: Any, fallback: Any) -> Any:
    """The user's value, or the model's where there is none."""
    return fallback if value is None else value


def settle_guidance(default: SamplerDefaults, options: SamplerOptions) -> Guidance:
    """The model's guidance with the user's changes."""
    return Guidance(
        picked(options.guidance, default.guidance),
        picked(options.guidance_low, default.guidance_low),
        picked(options.guidance_high, default.guidance_high),
        picked(options.guidance_interval, (0.0, float("inf"))),
    )


def settle_schedule(kind: str, default: SamplerDefaults, options: SamplerOptions) -> Schedule:
    """The model's noise levels with the user's changes; kind: "edm" or "flow".

    Raises:
        UserError: the user's own levels do not fall to above 0, are above 1 in a flow, or come with a number of steps.
    """
    if options.levels:
        return own_levels(kind, options)
    return make_schedule(
        kind,  # type: ignore[arg-type]
        picked(options.steps, default.steps),
        sigma_max=picked(options.sigma_max, default.sigma_max),
        sigma_min=picked(options.sigma_min, default.sigma_min),
        shift=picked(options.shift, default.shift),
    )


def own_levels(kind: str, options: SamplerOptions) -> Schedule:
    """`options.levels` and then 0."""
    told, levels = " ".join(f"{level:g}" for level in options.levels), options.levels
    if not all(high > low for high, low in pairwise((*levels, 0.0))):
        raise UserError(f"--sampler.levels {told}; they must fall, and the last is above 0")
    if kind == "flow" and levels[0] > 1:
        raise UserError(f"--sampler.levels {told}; this model's noise levels lie between 0 and 1")
    if options.steps not in (None, len(levels)):
        raise UserError(f"--sampler.levels are {len(levels)} and --sampler.steps is {options.steps}; leave one out")
    return Schedule(kind, torch.tensor([*levels, 0.0]))  # type: ignore[arg-type]


def settle_sampler(traits: ModelTraits, kind: str, options: SamplerOptions, seed: int) -> Settings:
    """The model's sampler with the user's changes."""
    default = traits.sampler
    guidance, schedule = settle_guidance(default, options), settle_schedule(kind, default, options)
    if options.cache == "guidance" and guidance.kind == "none":
        raise UserError(
            "--sampler.cache guidance needs --sampler.guidance, and there is none; choose --sampler.cache steps"
        )
    low, high = alpha_range = picked(options.alpha_range, default.alpha_range)
    if not 0 <= low < high <= 1:
        raise UserError(f"--sampler.alpha-range {low:g} {high:g}: the first must be below the second, both from 0 to 1")
    if traits.channels != 4 and alpha_range != (0.0, 1.0):
        raise UserError(f"--sampler.alpha-range {low:g} {high:g}: {traits.name} makes no alpha; leave it out")
    noise = partial(cell_noise, shared=picked(options.frame_noise, default.frame_noise) == "shared")
    name = picked(options.name, default.name)
    return Settings(schedule, name, guidance, seed, cache=options.cache, noise=noise, alpha_range=alpha_range)
