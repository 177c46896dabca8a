"""Grids sampled during training: from the held-out batch's known cells, beside the truth, scored as results are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.sample.metrics.evaluator import GridEvaluator, Settings
from viewtime.sample.metrics.measures.image import SSIM_WINDOW
from viewtime.sample.metrics.networks.perceptual import ImagePairMetric, Lpips
from viewtime.sample.models.mini_model import decode_cells
from viewtime.train.objective.losses import denoised_at_known, noised_batch, sample_generator
from viewtime.train.streams.batches import Batch

EDM_SIGMAS = (80.0, 0.002)
EDM_RHO = 7.0


def noise_levels(kind: str, steps: int, device: torch.device) -> Tensor:
    """[steps + 1] falling to 0: t from 1 in equal steps, or EDM's schedule (Karras et al. 2022, Eq. 5)."""
    if kind == "flow":
        return torch.linspace(1.0, 0.0, steps + 1, device=device)
    high, low = (value ** (1 / EDM_RHO) for value in EDM_SIGMAS)
    ramp = torch.linspace(0, 1, steps, device=device)
    return torch.cat([(high + ramp * (low - high)) ** EDM_RHO, torch.zeros(1, device=device)])


@torch.no_grad()
def sample_batch(
    model: nn.Module, batch: Batch, config: TrainConfig, before_step: Callable[[], None] = lambda: None
) -> Tensor:
    """Euler steps from noise to a grid [B, V, F, C, H, W]; known cells stay as given.

    A picture while training needs no guidance or plan, and the model may be sharded over processes: so this calls
    the prepared model itself; `viewtime sample` is the sampler for results.
    """
    levels = noise_levels(config.loss.kind, config.validation.sample_steps, batch.x0.device)
    generators = [sample_generator(config.seed, index, purpose=3) for index in range(len(batch.x0))]
    start = noised_batch(batch.x0, batch.cond.get("known"), config.loss, generators, float(levels[0]))
    x, active = start.x, start.unknown
    per_sample = start.sigma.dim() == 1
    for now, after in zip(levels[:-1].tolist(), levels[1:].tolist()):
        before_step()
        sigma = torch.full((len(x),), now, device=x.device) if per_sample else now * active
        denoised = denoised_at_known(model(x, sigma, batch.cond), batch.x0, active)
        x = denoised_at_known(x + (after - now) / now * (x - denoised), batch.x0, active)
    return x


def sample_and_measure(
    model: nn.Module,
    batch: Batch,
    config: TrainConfig,
    folder: Path,
    accelerator: Any,
    before_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Sample the first grids of a batch; the main process writes a contact sheet of truth over sample for each.

    Returns:
        "val/psnr", "val/ssim" … of the unknown cells, by the protocol of `viewtime evaluate`.

    Raises:
        UserError: pixels are not in reach, as the model works on latents.
    """
    if batch.x0.shape[3] not in (3, 4) or config.data.options.get("kind") == "latents":
        raise UserError("validation.sample_steps needs a pixel model; set it to 0 for latents")
    count = min(config.validation.sample_grids, len(batch.x0))
    part = Batch(batch.x0[:count], {k: v[:count] for k, v in batch.cond.items()}, batch.ids[:count])
    sampled = sample_batch(model, part, config, before_step).clamp(-1, 1)
    known = part.cond.get("known")
    unknown = torch.ones(part.x0.shape[:3], dtype=torch.bool) if known is None else ~known.cpu()
    record = over_processes(measure(part.x0.cpu(), sampled.cpu(), unknown), accelerator)
    if accelerator.is_main_process:
        write_sheets(folder, *(grid[:, :, :, :3].cpu() / 2 + 0.5 for grid in (part.x0, sampled)))
    return record


def over_processes(record: dict[str, float], accelerator: Any) -> dict[str, float]:
    """Means over the processes, the same on each, so that a gate stops all or none. A collective call."""
    if accelerator.num_processes == 1:
        return record
    records: list[dict[str, float]] = gather_object([record])
    names = dict.fromkeys(name for one in records for name in one)
    return {name: statistics.mean(one[name] for one in records if name in one) for name in names}


def measure(truth: Tensor, sampled: Tensor, unknown: Tensor) -> dict[str, float]:
    """Means over grids of what `viewtime.sample.metrics` measures; what a grid is too small for is left out.

    Args:
        truth, sampled: [B, V, F, C, H, W] in [-1, 1] as the model has them (RGB on white, then alpha where C is 4).
        unknown: cells that are scored, bool [B, V, F].
    """
    if not bool(torch.isfinite(sampled).all()):
        log.warning("sampled grids are not finite: no score")
        return {"val/psnr": math.nan}
    pair_metrics = _lpips()
    metrics = ["psnr", "object_crop_psnr", *pair_metrics]
    metrics += ["mask_iou"] if truth.shape[3] == 4 else []
    metrics += ["flicker"] if truth.shape[2] > 1 else []
    metrics += ["ssim"] if min(truth.shape[-2:]) >= SSIM_WINDOW else []
    evaluator = GridEvaluator(Settings(metrics=tuple(metrics)), None, pair_metrics)
    for left, right, cells in zip(sampled, truth, unknown, strict=True):
        evaluator.add(*(FrameGrid(_pixels(grid), ~cells) for grid in (left, right)))
    means = {name: torch.tensor([pair.values[name] for pair in evaluator.pairs]).nanmean().item() for name in metrics}
    return {f"val/{name}": value for name, value in means.items() if not math.isnan(value)}


def _pixels(values: Tensor) -> Tensor:
    """The model's [V, F, C, H, W] as a grid's frames in [0, 1]."""
    return decode_cells(values) if values.shape[2] == 4 else values / 2 + 0.5


def _lpips() -> dict[str, ImagePairMetric]:
    """LPIPS by its name, or nothing, with a line in the log, where its weights are not on this machine."""
    try:
        return {"lpips": Lpips(offline=True)}
    except UserError as error:
        log.info("no LPIPS in validation: %s", error)
        return {}


def write_sheets(folder: Path, truth: Tensor, result: Tensor) -> None:
    """One PNG a grid: every view's truth row over its sampled row. truth, result [B, V, F, 3, H, W] in [0, 1]."""
    from einops import rearrange

    from viewtime.images import write_image

    for index, (left, right) in enumerate(zip(truth, result)):
        sheet = rearrange(torch.stack([left, right], dim=1), "v s f c h w -> (v s h) (f w) c")
        write_image(folder / f"grid_{index}.png", (sheet * 255).round().byte().numpy())
