"""What a run says before it samples: the model and what it knows, the device, the object, the grid."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import nn

from viewtime.sample.models.loading import what_it_knows
from viewtime.sample.pipeline import Job, Pipeline


def first_words(pipeline: Pipeline, job: Job, weights: str, preview: Path) -> list[str]:
    """One line each; how long it takes is said by the progress line after the first step."""
    model, problem = pipeline.model, job.plan.problem
    size = pipeline.traits.cell
    network = cast(nn.Module, model.denoiser)
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    frames, first = problem.frames, job.prepared.source_frames[0]
    last, fps = job.prepared.source_frames[-1], job.prepared.fps
    windows = [window for window in job.plan.windows if window.stage != "reference"]
    steps = job.settings.schedule.steps * len(windows)
    plural = "" if len(windows) == 1 else "s"
    return [
        f"model: {what_it_knows(weights, pipeline.traits.name)}",
        f"device: {model.device}, {dtype}",
        f"object: found by {job.prepared.how}; {preview} shows it",
        f"grid: {problem.views} views (the input and {problem.views - 1} new ones) × {frames} frames "
        f"(of the video {first} to {last}, {fps:g} a second), {size[1]} × {size[0]} px each; "
        f"{len(windows)} window{plural}, {steps} sampling steps",
    ]
