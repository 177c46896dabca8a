"""What a run says before it samples: the model and what it knows, the device, the object, the grid."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import nn

from viewtime.configs.schema.sample import MemoryOptions
from viewtime.model.eight_bits import held_in_eight_bits
from viewtime.model.full_precision import weight_dtype
from viewtime.model.weight_names import what_it_knows
from viewtime.sample.models.grid_model import GridModel
from viewtime.sample.pipeline import Job, Pipeline
from viewtime.sample.run.memory import estimate

MANY_WINDOWS = 40  # hours on the fastest cards with the published models


def formats(model: GridModel) -> str:
    """The number formats of a model's parts: "float32", or "float16 (network), float32 (decoder)"."""
    module = _module(model)
    parts = dict(module.named_children()) if hasattr(model, "model") else {"": module}
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        dtype = str(weight_dtype(part)).removeprefix("torch.")
        found.setdefault(f"{dtype} of 8 bits" if held_in_eight_bits(part) else dtype, []).append(name)
    return ", ".join(f"{dtype} ({', '.join(names)})" if len(found) > 1 else dtype for dtype, names in found.items())


def _module(model: GridModel) -> nn.Module:
    return cast(nn.Module, getattr(model, "model", None) or model.denoiser)


UNKNOWN_CAMERAS = (
    "cameras: unknown, as this model does not see them; --camera.azimuths or --camera.trajectory tell them to "
    "viewtime reconstruct, evaluate and export"
)


def first_words(
    pipeline: Pipeline, job: Job, weights: str, preview: Path, memory: MemoryOptions | None = None
) -> list[str]:
    """One line each; how long it takes is said by the progress line after the first step."""
    model, problem = pipeline.model, job.plan.problem
    size = pipeline.traits.cell
    frames, first = problem.frames, job.prepared.source_frames[0]
    last, fps = job.prepared.source_frames[-1], job.prepared.fps
    windows = [window for window in job.plan.windows if window.denoised]
    steps = job.settings.schedule.steps * len(windows)
    long = len(windows) > MANY_WINDOWS
    plural = "" if len(windows) == 1 else "s"
    return [
        f"model: {what_it_knows(weights, pipeline.traits.name)}",
        f"device: {model.device}, {formats(model)}",
        f"object: found by {job.prepared.how}; {preview} shows it",
        f"grid: {problem.views} views (the input and {problem.views - 1} new ones) × {frames} frames "
        f"(of the video {first} to {last}, {fps:g} a second), {size[1]} × {size[0]} px each; "
        f"{len(windows)} window{plural}, {steps} sampling steps",
        *([] if job.cameras_known else [UNKNOWN_CAMERAS]),
        *filter(None, [estimate(memory or MemoryOptions(), pipeline.traits, held_in_eight_bits(_module(model)))]),
        *([f"a long video: --preprocess.fps {fps / 4:g} samples a quarter of its frames"] if long else []),
    ]
