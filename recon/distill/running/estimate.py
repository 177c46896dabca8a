"""What a run will need of a GPU's memory, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_stages import ShotOptions, StageOptions
from viewtime.errors import UserError
from viewtime.log import log

from ..fields.make import make_scene
from ..published.catalogue import CATALOGUE
from .judges import DTYPES, load_options
from .schedule import make_objective, used_guidances, used_shots

GIB = 2**30
SAMPLE_BYTES, DISPLACED_SAMPLE_BYTES = 1200, 2300  # at a step's peak (benchmarks/gpu_distill.py); with a displacement
SAMPLES_PER_RAY = 80  # of 512: the starting blob through a narrow lens; an object that fills the picture has half
CONTEXT_BYTES = 1 * GIB  # CUDA's own, libraries' workspaces and rounding


@dataclass(frozen=True)
class StageEstimate:
    """Bytes at the peak of a stage, by part."""

    stage: str
    scene: int
    guidances: int
    step: int
    rendering: int

    @property
    def total(self) -> int:
        """All together."""
        return self.scene + self.guidances + self.step + self.rendering + CONTEXT_BYTES

    def __str__(self) -> str:
        parts = (("scene and optimiser", self.scene), ("guidances", self.guidances), ("their step", self.step),
                 ("rendering", self.rendering))  # fmt: skip
        said = ", ".join(f"{name} {value / GIB:.1f}" for name, value in parts)
        return f"stage {self.stage}: about {self.total / GIB:.0f} GB ({said}, CUDA {CONTEXT_BYTES / GIB:.0f})"


def estimate(config: DistillConfig) -> list[StageEstimate]:
    """The peak of each stage: parameters exactly, the guidances' steps on pretended tensors, rendering by a rule."""
    with torch.device("meta"):
        scene = make_scene(config.scene, config.background, config.render, config.seed)
    values = sum(parameter.numel() for parameter in scene.parameters())
    known: dict[str, tuple[int, int]] = {}
    result = []
    for name, stage in config.stages.items():
        needs = [guidance_memory(config, shot, guidance, known) for shot, guidance in _uses(stage)]
        weights = sum(weight for guidance, weight in {g: w for g, w, _ in needs}.items())
        trained = sum(p.numel() for group, ps in scene.groups().items() if group in stage.rates for p in ps)
        step = max((peak for _, _, peak in needs), default=0)
        rays = max((_rays(shot, config) for shot in used_shots(stage).values()), default=0)
        displaced = stage.moving and config.scene.motion != "grid"
        rendering = rays * SAMPLES_PER_RAY * (DISPLACED_SAMPLE_BYTES if displaced else SAMPLE_BYTES)
        result.append(StageEstimate(name, 4 * (values + 3 * trained), weights, step, rendering))
    return result


def _uses(stage: StageOptions) -> list[tuple[ShotOptions, str]]:
    return [(shot, name) for shot in used_shots(stage).values() for name in shot.guidances if name != "reference"]


def _rays(shot: ShotOptions, config: DistillConfig) -> int:
    most = max(h * w * scenes for h, w, scenes in shot.sizes) * shot.views * shot.frames
    return min(most, config.render.at_once or most)


def guidance_memory(
    config: DistillConfig, shot: ShotOptions, name: str, known: dict[str, tuple[int, int]]
) -> tuple[str, int, int]:
    """(name, bytes of its weights, bytes of a step beyond them); `known` holds what was computed already."""
    options = config.guidances[name]
    if options.model not in CATALOGUE:
        return name, 0, 0
    height, width, scenes = max(shot.sizes, key=lambda size: size[0] * size[1] * size[2])
    key = f"{name} {scenes} {shot.views} {shot.frames}"
    if key not in known:
        from ..memory import step_memory

        batch = (scenes, shot.views, shot.frames)
        found = step_memory(
            options.model, make_objective(options), batch, (height, width), DTYPES[options.dtype],
            load_options(options), shared_copy=options.carrier is None,
        )  # fmt: skip
        known[key] = (found.weights, found.peak - found.weights)
    return (name, *known[key])


def say_estimate(config: DistillConfig, device: torch.device) -> None:
    """Print the estimate, and refuse a run that does not fit.

    Raises:
        UserError: a stage needs more than `--memory`, or than the device has.
    """
    used = used_guidances(config.stages.values())
    if all(config.guidances[name].model not in CATALOGUE for name in used):
        return
    log.info("estimating what the stages need, on tensors without values (a minute)")
    stages = estimate(config)
    for stage in stages:
        log.info("%s", stage)
    most = max(stages, key=lambda stage: stage.total)
    limit = config.memory * GIB
    if device.type == "cuda":
        free = torch.cuda.get_device_properties(device).total_memory
        limit = min(limit or free, free)
    if limit and most.total > limit and not config.fit_anyway:
        smaller = [size for size in (80, 48, 24, 12) if size * GIB <= limit and size != config.memory]
        hint = f"take --memory {smaller[0]}" if smaller else "make stages.*.shots.*.sizes smaller"
        raise UserError(
            f"stage {most.stage} needs about {most.total / GIB:.0f} GB and there are {limit / GIB:.0f}: {hint}, or "
            "start with --fit_anyway true"
        )
