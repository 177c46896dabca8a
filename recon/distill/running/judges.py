"""Opens the guidances that a run's options name."""

from __future__ import annotations

import torch

from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_stages import GuidanceOptions

from ..guidance.analytic import AnalyticGuidance, Knowledge, KnownPrompt
from ..guidance.base import Kind
from ..known_scene import KnownGaussians
from ..teacher import Teacher
from .schedule import Judge, make_objective, scalar


def analytic_guidance(name: str, options: GuidanceOptions) -> AnalyticGuidance:
    """The exact denoiser of the scene that ships."""
    o = options
    knowledge = Knowledge(o.camera, o.time, blur=o.blur)
    return AnalyticGuidance(name, KnownGaussians.of(), Kind(o.kind), o.size, views=o.views, knowledge=knowledge)


def open_judge(name: str, config: DistillConfig, device: torch.device) -> Judge:
    """The judge of a section of `guidances`.

    Raises:
        UserError: no weights are named, there are none, or they are another network's.
    """
    options = config.guidances[name]
    weight = {loss: scalar(value, f"guidances.{name}.weight.{loss}") for loss, value in options.weight.items()}
    if options.model == "analytic":
        teacher = Teacher(analytic_guidance(name, options), KnownPrompt(config.prompt), make_objective(options))
        return Judge(teacher, weight, options.front_only)
    raise NotImplementedError(device)
