"""`viewtime distill`: a text or a picture in; a 4D asset out, by score distillation (4D-fy, Dream-in-4D)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from einops import rearrange

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.export import ExportConfig
from viewtime.configs.schema.reconstruct import GaussianOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.log import log
from viewtime.run_folder import start_run
from viewtime.run_lock import alone_in

from .command import write_asset
from .distill.guidance.base import Guidance, Kind, SeededDraws
from .distill.guidance.prior import draw_prior
from .distill.running.estimate import say_estimate
from .distill.running.fit import DistillFit
from .distill.running.judges import check_weights, open_guided, open_judge
from .distill.running.loop import PREVIEW, RECORD, STATE, run_distill
from .distill.running.reference import Reference
from .distill.running.schedule import used_guidances
from .distill.running.show import result_grid
from .export_command import export_asset
from .fitting.resume import close_states

PRIOR_SCALE, PRIOR_FRAMES = 7.5, 8


def run(config: DistillConfig) -> list[Path]:
    """Shape a scene, and make of it everything that `viewtime reconstruct` makes of a grid.

    Returns:
        Paths written: losses.jsonl, preview.png, grid (views × frames), and in asset what `reconstruct` writes; or,
        with `preview_prior`, a picture per guidance.

    Raises:
        UserError: an empty prompt, options that do not go together, weights that are missing or another network's, too
            little memory, or a run that diverges.
    """
    _check(config)
    device = _device(config)
    reference = None if config.image is None else Reference.read(config.image, config.reference)
    check_weights(config)
    if not config.preview_prior:
        say_estimate(config, device)
    with alone_in(config.out):
        return _write(config, device, reference)


def _write(config: DistillConfig, device: torch.device, reference: Reference | None) -> list[Path]:
    folder = start_run(config.out, "distill", config, config.seed).folder
    if config.preview_prior:
        return [write_prior(name, config, device, reference) for name in used_guidances(config.stages.values())]
    fit = DistillFit(config, lambda name: open_judge(name, config, device, reference), device, reference)
    run_distill(fit, folder)
    grid = result_grid(fit.scene, config.result)
    paths = [folder / RECORD, folder / PREVIEW, grid.save(folder / "grid", lossless=True)]
    if config.result.reconstruct:
        paths += _asset(config, folder)
    close_states(folder, (STATE,))
    return paths


def _check(config: DistillConfig) -> None:
    if not config.prompt.strip():
        raise UserError("the prompt is empty; say what to make")
    needs_picture = any("reference" in s.guidances for st in config.stages.values() for s in st.shots.values())
    if config.image is not None and not needs_picture:
        raise UserError(
            f"--image {config.image}: the schedule {config.config} follows no picture; take --config dream-in-4d-image"
        )
    if needs_picture and config.image is None:
        raise UserError(f"the schedule {config.config} follows a picture: give --image FILE.png (RGBA)")


def _device(config: DistillConfig) -> torch.device:
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    return torch.device("cuda" if cuda and config.device != "cpu" else "cpu")


def write_prior(name: str, config: DistillConfig, device: torch.device, reference: Reference | None) -> Path:
    """What one guidance alone draws of the prompt: views are rows, instants run to the right."""
    log.info("drawing what %s alone makes of the prompt", name)
    guidance, prompt = open_guided(name, config, device, reference)
    pictures = draw_prior(
        guidance, prompt, prior_cameras(guidance, config), SeededDraws(config.seed), scale=PRIOR_SCALE,
        steps=config.preview_steps, device=device,
    )  # fmt: skip
    sheet = rearrange(pictures, "b v f c h w -> (b v h) (f w) c").float().clamp(0, 1).cpu()
    return write_image(config.out / f"prior_{name}.png", sheet)


def prior_cameras(guidance: Guidance, config: DistillConfig) -> tuple[Cameras, ...]:
    """The views and frames that a guidance looks at together; four sides for one that looks at single pictures."""
    traits, o = guidance.traits, config.result
    views = 4 if traits.kind is Kind.IMAGE else traits.views
    frames = PRIOR_FRAMES if traits.kind is Kind.VIDEO and traits.frames == 1 else traits.frames
    return (regular_orbit(views, frames, elevation=o.elevation, distance=o.distance, fov_y=o.fov_y),)


def _asset(config: DistillConfig, folder: Path) -> list[Path]:
    """Gaussians, mesh, films and scores of the grid, as `viewtime reconstruct` makes them."""
    steps = config.result.iterations
    options = dataclasses.replace(GaussianOptions(), static_iterations=max(1, steps // 5), dynamic_iterations=steps)
    out = folder / "asset"
    made = ReconstructConfig(folder / "grid", out, gaussians=options, seed=config.seed, resume=config.resume)
    paths = write_asset(FrameGrid.load(folder / "grid"), made, out)
    if config.result.page:
        paths += export_asset(ExportConfig(out, formats=("html",)))
    return paths
