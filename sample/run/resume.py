"""What decides the sampled cells, so that a run goes on from an interrupted one only where that was the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from viewtime.configs.earlier import mark_of, same_mark
from viewtime.configs.schema.sample import SampleConfig
from viewtime.fingerprint import fingerprint
from viewtime.model.weight_names import find_weights
from viewtime.run_folder import plain
from viewtime.sample.plan.plan import Window

from .job import Job

# Options that change no sampled cell: a run may be resumed with others.
WITHOUT_EFFECT = (
    "video", "freeze_video", "out", "save", "dnerf", "stream", "keep_windows", "show_plan", "memory", "device",
    "preset", "upsampler", "upsample", "offline", "asset",
)  # fmt: skip


def run_mark(config: SampleConfig, job: Job) -> dict[str, Any]:
    """The options, the content of the prepared input, and the weights."""
    options = {key: value for key, value in plain(config).items() if key not in WITHOUT_EFFECT}
    files = [find_weights(config.weights, config.offline)]
    files += [Path(name) for name in (config.reference.weights, config.text.weights) if name is not None]
    return job_mark(job, files, options)


def goes_on(before: Any, now: dict[str, Any]) -> bool:
    """Whether a run of `now` may go on from windows of `before`; see `viewtime.configs.earlier.same_mark`."""
    return same_mark(SampleConfig, before, now)


def job_mark(job: Job, weights: Iterable[Path] = (), options: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job's own: cells, cameras, plan and settings.

    Args:
        weights: files that the model is read from; names that are no file count by name.
    """
    cameras = (job.cameras.elevation, job.cameras.azimuth, job.cameras.distance)
    settings, problem = job.settings, job.plan.problem
    guided = (settings.guidance.kind, settings.guidance.low, settings.guidance.high, settings.guidance.interval)
    windows = [
        (window.stage, window.views, window.frames, sorted(window.sampled), _ways(window))
        for window in job.plan.windows
    ]
    described = {
        "plan": [job.plan.name, problem.views, problem.frames, sorted(problem.given), windows],
        "settings": [settings.sampler, guided, settings.seed, settings.cache, settings.alpha_range],
        "fov_y": job.cameras.fov_y,
    }
    arrays = (job.prepared.cells, job.reference_views, settings.schedule.sigmas, *cameras)
    return mark_of(options or {}, fingerprint(described, arrays, weights))


def _ways(window: Window) -> list[tuple]:
    return [(way.name, way.frames, way.conditions) for way in window.directions]
