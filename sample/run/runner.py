"""One engine for all models: windows of a plan, wave by wave, batched, spread over processes, resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError, first_line
from viewtime.log import Bar
from viewtime.sample.models.grid_model import GridModel, Request
from viewtime.sample.plan.plan import INTERPOLATED, Plan, Window, consecutive
from viewtime.sample.solver.cache import CacheKind, StepCache
from viewtime.sample.solver.guidance import Guidance
from viewtime.sample.solver.noise import cell_noise
from viewtime.sample.solver.samplers import EVALUATIONS_PER_STEP, get_sampler
from viewtime.sample.solver.schedules import Schedule

from .between import interpolated
from .processes import Half, Processes
from .store import CellStore
from .window_denoiser import WindowDenoiser

MakeReference = Callable[[Window], Tensor]
NoiseSource = Callable[..., Tensor]


@dataclass(frozen=True)
class Settings:
    """How windows are sampled.

    Attributes:
        batch_windows: windows of one wave in one batch; changes memory and speed, not the result.
        split_guidance: see `WindowDenoiser`.
        noise: where start noise comes from; called as `cell_noise`.
        alpha_range: see `SamplerOptions`; (0, 1) leaves alpha as it is.
    """

    schedule: Schedule
    sampler: str = "euler"
    guidance: Guidance = field(default_factory=Guidance)
    seed: int = 0
    batch_windows: int = 1
    split_guidance: bool = False
    cache: CacheKind = "none"
    noise: NoiseSource = cell_noise
    alpha_range: tuple[float, float] = (0.0, 1.0)


def run_plan(
    plan: Plan,
    model: GridModel,
    store: CellStore,
    cameras: Cameras,
    settings: Settings,
    *,
    processes: Processes | None = None,
    make_reference: MakeReference | None = None,
    bar: Bar | None = None,
) -> Iterator[Window]:
    """Sample every window that is not finished yet and yield each as soon as its cells are in the store.

    Args:
        store: holds the given cells already.
        cameras: of the whole grid.
        processes: each, or each pair of them, takes its share of every wave; all must see the store's folder. Of a pair
            the first stores and yields.
        make_reference: makes the cells of a "reference" window, [V, 1, C, H, W].

    Raises:
        UserError: out of memory, or values outgrew the number format; says what to turn.
    """
    processes = processes or Processes()
    for wave in plan.waves:
        mine, half = _share(wave, settings, processes)
        waiting = [window for window in mine if not store.finished(window)]
        if bar is not None:
            finished = sum(window.denoised and window not in waiting for window in mine)
            bar.advance(finished * settings.schedule.steps)
        for batch in _batches(waiting, settings.batch_windows):
            made = _sample(plan, model, store, cameras, settings, batch, make_reference, bar, half)
            for window, cells in zip(batch, made):
                store.put_window(window, cells)
                yield window
        processes.wait()


def _share(wave: Sequence[Window], settings: Settings, processes: Processes) -> tuple[list[Window], Half | None]:
    """The windows of a wave that this process samples, and its half where it does so in a pair."""
    guided = settings.guidance.kind != "none" and all(window.denoised for window in wave)
    teams, team, half = processes.share(len(wave), guided)
    return [window for position, window in enumerate(wave) if position % teams == team], half


def own_steps(plan: Plan, settings: Settings, processes: Processes) -> int:
    """Sampling steps that this process does, alone or in a pair."""
    mine = [window for wave in plan.waves for window in _share(wave, settings, processes)[0]]
    return settings.schedule.steps * sum(window.denoised for window in mine)


def _batches(windows: Sequence[Window], size: int) -> Iterator[tuple[Window, ...]]:
    """Windows of equal shape, frame order and number of directions together, at most `size`."""
    groups: dict[tuple, list[Window]] = {}
    for window in windows:
        key = ("" if window.denoised else window.stage, len(window.views), len(window.frames), _orders(window))
        groups.setdefault(key, []).append(window)
    for group in groups.values():
        yield from consecutive(group, size)


def _orders(window: Window) -> tuple:
    return tuple(tuple(window.frames.index(frame) for frame in d.frames) for d in window.directions)


def _sample(
    plan: Plan,
    model: GridModel,
    store: CellStore,
    cameras: Cameras,
    settings: Settings,
    batch: Sequence[Window],
    make_reference: MakeReference | None,
    bar: Bar | None,
    half: Half | None,
) -> list[Tensor]:
    """Cells of each window of a batch, [V, F, C, H, W] each; none from the second process of a pair."""
    if batch[0].stage == "reference":
        if make_reference is None:
            raise ValueError(f"plan {plan.name} has a reference stage but nothing makes the reference views")
        return [make_reference(window) for window in batch]
    if batch[0].stage in INTERPOLATED:
        return [interpolated(window, store) for window in batch]
    try:
        with torch.no_grad():
            return _denoise(plan, model, store, cameras, settings, batch, bar, half)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(_memory_advice(settings, batch[0], error)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise UserError(_memory_advice(settings, batch[0], error)) from error


def _memory_advice(settings: Settings, window: Window, error: BaseException) -> str:
    """One line: what did not fit, and which options make it smaller, the cheapest first."""
    advice = []
    if settings.batch_windows > 1:
        advice.append("--memory.batch-windows 1")
    if settings.guidance.kind != "none" and not settings.split_guidance:
        advice.append("--memory.split-guidance")
    advice += ["--memory.offload", "--memory.chunk 1", "fewer --views", "a smaller --size"]
    return (
        f"out of memory on a window of {len(window.views)} views × {len(window.frames)} frames "
        f"({first_line(error)}); try {', '.join(advice)}"
    )


def _denoise(
    plan: Plan,
    model: GridModel,
    store: CellStore,
    cameras: Cameras,
    settings: Settings,
    batch: Sequence[Window],
    bar: Bar | None,
    half: Half | None,
) -> list[Tensor]:
    reads = [partial(store.read, window=window) for window in batch]
    requests = [
        [Request(window, direction, cameras, read) for direction in window.directions]
        for window, read in zip(batch, reads)
    ]
    schedule = settings.schedule
    cache = StepCache(settings.cache, schedule.steps)
    split = settings.split_guidance
    denoise = WindowDenoiser(model, requests, settings.guidance, split_guidance=split, cache=cache, half=half)
    noise = [
        settings.noise(
            settings.seed, w.views, w.frames, model.latent_shape(), lambda view, frame, w=w: plan.draw((view, frame), w)
        )
        for w in batch
    ]
    x = torch.stack(noise).to(model.device) * schedule.initial_scale

    def on_step(step: int, state: Tensor, denoised: Tensor) -> None:
        del step, state, denoised
        if bar is not None:
            bar.advance(len(batch))

    latents = get_sampler(settings.sampler)(denoise, x, schedule, on_step)
    if not bool(torch.isfinite(latents).all()):
        raise UserError(
            f"window {batch[0].index} holds values that are not finite: the network outgrew its number format; "
            "give --dtype bfloat16 or float32"
        )
    if half is not None and half.number:
        return []
    made = [_decide_alpha(model.decode(grid), *settings.alpha_range) for grid in latents]
    return [_keep_known(window, cells, store) for window, cells in zip(batch, made)]


def _decide_alpha(cells: Tensor, low: float, high: float) -> Tensor:
    """Stretch alpha from `low` … `high` to 0 … 1; the colours, which are straight, stay. [V, F, C, H, W] -> same."""
    if (low, high) == (0, 1):
        return cells
    alpha = ((cells[:, :, 3:] - low) / (high - low)).clamp(0, 1)
    return torch.cat([cells[:, :, :3], alpha], dim=2)


def _keep_known(window: Window, cells: Tensor, store: CellStore) -> Tensor:
    """Put the exact content back where a cell of the rectangle was known and not sampled."""
    known = [(view, frame) for view in window.views for frame in window.frames if (view, frame) not in window.sampled]
    if not known:
        return cells
    cells = cells.to("cpu", torch.float32)
    mask = torch.tensor([[(view, frame) in set(known) for frame in window.frames] for view in window.views])
    cells[mask] = store.read(known, window).to(cells)
    return cells


def evaluations(plan: Plan, settings: Settings) -> int:
    """Network evaluations of a whole run, for benchmarks and estimates (guidance's two branches count two)."""
    per_step = EVALUATIONS_PER_STEP[settings.sampler]
    guided = [settings.guidance.active(float(sigma)) for sigma in settings.schedule.sigmas[:-1]]
    return sum(window.stage not in INTERPOLATED for window in plan.windows) * per_step * sum(1 + on for on in guided)
