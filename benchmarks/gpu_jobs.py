"""Full-size pieces of work of every model, on whatever device is called "cuda": fake (`fake_gpu`) or real.

A piece is one call; `Job.units` says how many of each make 21 frames of the model's own views, with its published
windows and steps. Weights are random (real card) or absent (fake one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from viewtime.cameras import Cameras
from viewtime.configs.load import load_preset
from viewtime.configs.schema.sample import PlanOptions, SamplerOptions
from viewtime.model.conditioners.conditioner import unconditional
from viewtime.model.denoiser import Conditioning
from viewtime.model.eight_bits import hold_in_eight_bits
from viewtime.model.memory_layout import channels_last
from viewtime.model.precision import Dtypes, part_dtypes
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.registry import build_denoiser
from viewtime.model.video_model import VideoModel
from viewtime.sample.models.four_real_model import FourRealModel
from viewtime.sample.models.grid_model import GridModel, Request
from viewtime.sample.models.mini_model import MiniModel
from viewtime.sample.models.video_grid_model import VideoGridModel
from viewtime.sample.run.memory import fit_windows
from viewtime.sample.run.settle import settle_plan, settle_sampler
from viewtime.sample.run.window_denoiser import WindowDenoiser
from viewtime.sample.solver.samplers import get_sampler
from viewtime.sample.solver.schedules import Schedule
from viewtime.weights import read_header

FRAMES = 21  # of the published demonstrations
CUDA = torch.device("cuda")
GRID_MODELS = ("sv3d-u", "sv3d-p", "sv4d", "sv4d2", "sv4d2-8views")
Piece = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """A model ready to work.

    Attributes:
        module: what lies on the card.
        pieces: name -> one unit of work, in the order of a window.
        units: name -> how many units make the whole.
    """

    module: nn.Module
    pieces: dict[str, Piece]
    units: dict[str, int]


@dataclass(frozen=True)
class Memory:
    """What of `MemoryOptions` changes a piece."""

    chunk: int = 8
    split_guidance: bool = False
    batch_windows: int = 1
    card: int | None = None
    int8: bool = False


def build_video_model(config: VideoModelConfig, dtypes: Dtypes, device: torch.device = CUDA) -> VideoModel:
    """All parts with random weights, each in its format, without a float32 copy of the whole."""
    with torch.device("meta"):
        model = VideoModel(config).eval().requires_grad_(False)
    for name, part in model.named_children():
        fill(part, dtypes[name], device)
    return model


def fill(module: nn.Module, dtype: torch.dtype, device: torch.device = CUDA) -> nn.Module:
    """Random weights for a module on the meta device: matrices that keep a signal's size, vectors as they start."""
    state = {}
    for name, tensor in module.state_dict().items():
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        value = torch.zeros(tensor.shape, dtype=kind, device=device)
        if tensor.ndim > 1 and tensor.is_floating_point():
            value.normal_(std=0.5 / (tensor.numel() / tensor.shape[0]) ** 0.5)
        elif name.rpartition(".")[2] == "weight":
            value.fill_(1)
        state[name] = value
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False)


def sampling_job(model: GridModel, module: nn.Module, memory: Memory, frames: int = FRAMES) -> Job:
    """Conditions, a guided step and decoding of the model's longest window, as the runner does them."""
    traits = model.traits
    given = {(0, frame) for frame in range(frames)}
    if traits.needs_reference and traits.inside:  # 4real: the first column is filmed
        given |= {(view, 0) for view in range(1, traits.novel_views + 1)}
    options = fit_windows(PlanOptions(), memory.card, traits)
    plan = settle_plan(traits, traits.novel_views, frames, frozenset(given), options)
    windows = [window for window in plan.windows if window.stage != "reference"]
    window = max(windows, key=lambda w: (len(w.views) * len(w.frames), len(w.directions)))
    with unset_fake_temporarily():  # values that the host reads
        angles = torch.linspace(0, 330, 1 + traits.novel_views)[:, None].expand(-1, frames)
        cameras = Cameras(torch.zeros_like(angles), angles, torch.full_like(angles, 2.0))
        settings = settle_sampler(traits, model.denoiser.schedule_kind, SamplerOptions(), 0)
        sigma = settings.schedule.sigmas.tolist()[0]
    read = partial(_cells, traits.channels, traits.cell)
    requests = [[Request(window, d, cameras, read) for d in window.directions]] * memory.batch_windows
    state: dict[str, Any] = {}

    def conditions() -> None:
        state["denoise"] = WindowDenoiser(model, requests, settings.guidance, split_guidance=memory.split_guidance)

    one_step = _Ladder(settings.schedule, [sigma, sigma / 2])
    shape = (memory.batch_windows, len(window.views), len(window.frames), *model.latent_shape())

    def step() -> Tensor:
        state["x"] = get_sampler(settings.sampler)(state["denoise"], torch.randn(shape, device=model.device), one_step)
        return state["x"]

    def decode() -> list[Tensor]:
        return [model.decode(latents) for latents in state["x"]]

    batches = -(-len(windows) // memory.batch_windows)
    units = {"conditions": batches, "step": batches * settings.schedule.steps, "decode": batches}
    return Job(module, {"conditions": conditions, "step": step, "decode": decode}, units)


class _Ladder:
    """Two noise levels that are numbers already; a fake tensor holds none."""

    def __init__(self, schedule: Schedule, levels: list[float]) -> None:
        self.kind, self.signal, self.sigmas = schedule.kind, schedule.signal, self
        self.levels = levels

    def tolist(self) -> list[float]:
        return self.levels


def _cells(channels: int, cell: tuple[int, int], cells: Any) -> Tensor:
    """Cells as a store reads them: on the host."""
    return torch.rand(len(cells), channels, *cell)


def published_job(
    name: str, memory: Memory | None = None, dtypes: Dtypes | None = None, device: torch.device = CUDA
) -> Job:
    """A job of a published model by its preset; svd-xt makes its 25 frames of 1024 × 576."""
    memory, config = memory or Memory(), load_model_config(name)
    model = build_video_model(config, dtypes or part_dtypes(device), device)
    channels_last(model.get_submodule("network"))  # as where weights are read
    if memory.int8:
        hold_in_eight_bits(model.get_submodule("network"))
        hold_in_eight_bits(model.get_submodule("image_encoder"))
    if config.family == "svd":
        return svd_job(config, model, memory, device)
    frames = FRAMES if config.family == "sv4d" else 1
    return sampling_job(VideoGridModel(model, device, memory.chunk), model, memory, frames)


def svd_job(config: VideoModelConfig, model: VideoModel, memory: Memory, device: torch.device = CUDA) -> Job:
    """SVD makes no grid: image in, one video out (scale 1 to 3 over its frames, 25 steps)."""
    height, width = config.image_size, config.image_size * 16 // 9 // 64 * 64
    state: dict[str, Conditioning] = {}
    shape = (1, 1, config.frames, 4, height // 8, width // 8)

    def conditions() -> None:
        cond = model.conditioner(memory.chunk).svd(torch.rand(1, 3, height, width, device=device))
        state["both"] = {k: torch.cat([v, cond[k]]) for k, v in unconditional(config, cond).items()}

    def step() -> Tensor:
        x = torch.randn(shape, device=device)
        sigmas = torch.full((2,), 1.0, device=device)
        negative, positive = model.denoiser()(x.repeat(2, 1, 1, 1, 1, 1), sigmas, state["both"]).chunk(2)
        return x + (x - (negative + 2 * (positive - negative))) * -0.1

    def decode() -> Tensor:
        codec = model.codec(memory.chunk)
        dtype = next(model.get_submodule("decoder").parameters()).dtype
        return codec.decode(torch.randn(shape, device=device).to(dtype) / codec.scale)

    return Job(
        model, {"conditions": conditions, "step": step, "decode": decode}, {"conditions": 1, "step": 25, "decode": 1}
    )


def own_job(name: str, memory: Memory | None = None) -> Job:
    """mini, 4real or 4real-upsampler at the size of its file or preset."""
    memory, dtypes = memory or Memory(), part_dtypes(CUDA)
    if name.startswith("mini"):
        from viewtime.model.weight_names import SHIPPED

        record, _ = read_header(SHIPPED[name])
        denoiser = _denoiser("mini", record["model"]["config"], dtypes)
        model: GridModel = MiniModel(denoiser, record["model"]["config"]["size"], record, name)
        return sampling_job(model, denoiser, memory)
    section = load_preset(name, "train")["model"]
    denoiser = _denoiser(section["name"], section["config"], dtypes)
    if name == "4real":
        return sampling_job(FourRealModel(denoiser), denoiser, memory)
    factor, size = denoiser.network.config.factor, denoiser.network.config.base.frame_size  # type: ignore[union-attr]

    def step() -> Tensor:
        x = torch.randn(1, 8, 8, 3, *size, device=CUDA)
        small = torch.rand(1, 8, 8, 3, size[0] // factor, size[1] // factor, device=CUDA)
        return denoiser(x, torch.full((1,), 0.5, device=CUDA), {"small": small})

    return Job(denoiser, {"step": step}, {"step": 8 * 4})


def _denoiser(name: str, config: dict[str, Any], dtypes: Dtypes) -> Any:
    with torch.device("meta"):
        denoiser = build_denoiser(name, config).eval().requires_grad_(False)
    return fill(denoiser, dtypes["network"])


# mini-generalist is not among them: which cells of its solid are empty, hangs on values (see the strict device).
JOBS: dict[str, Callable[..., Job]] = {
    **{name: partial(published_job, name) for name in ("svd-xt", *GRID_MODELS)},
    **{name: partial(own_job, name) for name in ("4real", "4real-upsampler", "mini")},
}
