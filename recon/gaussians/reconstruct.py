"""`viewtime reconstruct --method gaussians`: fit, mesh, films, scores."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.recon.export.films import write_orbit
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import remove_mesh, save_mesh
from viewtime.recon.export.preview import write_preview
from viewtime.recon.fitting.azimuth_sign import mirrored_fits_better
from viewtime.recon.fitting.device import fitting_device
from viewtime.recon.fitting.loop import run_fit, scene_info
from viewtime.recon.fitting.resume import close_states, open_states
from viewtime.recon.fitting.score import held_out_scores, scores, write_scores
from viewtime.recon.fitting.targets import Targets, make_targets, split_views
from viewtime.recon.render.threads import one_thread
from viewtime.recon.surface.mesh_choice import best_mesh
from viewtime.run_folder import start_run

from .asset import GaussianAsset
from .canonical import Gaussians
from .compensation import Compensation
from .fit import GaussianFit, restore_module
from .initialise import check_start, first_gaussians

STATE, FIRST_PASS = "state.pt", "first_pass.pt"


def reconstruct_gaussians(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Fit a grid and write the asset folder.

    Returns:
        Paths written: asset.json, gaussians.safetensors, mesh.safetensors, asset.glb, orbit.mp4, preview.png,
        metrics.json.

    Raises:
        UserError: the grid cannot be reconstructed (see `make_targets`) or started (see `check_start`), or `out` cannot
            be written.
    """
    torch.manual_seed(config.seed)
    train, held_out = split_views(grid, config.held_out)
    folder = start_run(out, "reconstruct", config, config.seed)
    check_start(config, grid.shape[1])  # before the state of a run with better options is thrown away
    open_states(out, train, config)
    fit, seconds = fit_gaussians(train, config, folder.folder)
    paths = write_folder(bake(fit, train), fit.targets.to("cpu"), train, held_out, config, out, seconds)
    close_states(out)
    return paths


def write_folder(
    asset: GaussianAsset,
    targets: Targets,
    train: FrameGrid,
    held_out: FrameGrid | None,
    config: ReconstructConfig,
    out: Path,
    seconds: float,
) -> list[Path]:
    """Scores, mesh, films and the asset itself; the paths written.

    Args:
        targets: of `train`. seconds: that making the asset took.
    """
    paths = [write_preview(asset, train, out / "preview.png")]
    record: dict = {
        "seconds": round(seconds, 2),
        "gaussians": asset.means.shape[1],
        "train": scores(asset.render_grid(train.orbit, *train.shape[3:]), train),
    }
    if held_out is not None:
        record["held_out"] = held_out_scores(asset.render_grid(held_out.orbit, *held_out.shape[3:]), held_out)
    if config.mesh.enabled:
        with one_thread(targets.elements(targets.shape[0])):
            mesh, iou = best_mesh(asset, targets, train.orbit, config.mesh)
        record["mesh"] = {"train_iou": iou, "vertices": mesh.positions.shape[1], "triangles": len(mesh.triangles)}
        paths += [save_mesh(mesh, out), write_animated(mesh, out / "asset.glb", config.mesh)]
    else:
        remove_mesh(out)  # of an earlier asset in this folder, which later exports would take for this one's
    asset.info["scores"] = record
    paths = asset.save(out) + paths
    if config.orbit_seconds > 0:
        paths.append(write_orbit(asset, out / "orbit.mp4", seconds=config.orbit_seconds))
    paths.append(write_scores(record, out / "metrics.json"))
    return paths


def fit_gaussians(grid: FrameGrid, config: ReconstructConfig, folder: Path | None = None) -> tuple[GaussianFit, float]:
    """Run both stages with progress, preview and saved states; the fit and its seconds.

    Raises:
        UserError: the grid cannot be reconstructed, or `two_stage` has nothing to correct.
    """
    targets = make_targets(grid)
    mirrored_fits_better(targets, grid.orbit)
    started = time.perf_counter()
    if config.imperfect.two_stage:
        half = dataclasses.replace(
            config.gaussians,
            static_iterations=config.gaussians.static_iterations // 2,
            dynamic_iterations=config.gaussians.dynamic_iterations // 2,
        )
        config = dataclasses.replace(config, gaussians=half)
        targets = _corrected(targets, grid, config, folder)
    fit = iterate(targets, first_gaussians(targets, config), grid, config, folder and folder / STATE)
    return fit, time.perf_counter() - started


def _corrected(targets: Targets, grid: FrameGrid, config: ReconstructConfig, folder: Path | None) -> Targets:
    """First pass of the two-stage refinement: its pictures without the offsets and gains that it learned."""
    if not (config.imperfect.offset or config.imperfect.exposure):
        raise UserError("--imperfect.two-stage corrects offsets and gains: add --imperfect.offset or .exposure")
    V, F, _, _ = targets.shape
    kept = folder and folder / FIRST_PASS
    if kept and kept.is_file():
        compensation = Compensation(config.imperfect, V, F, torch.zeros(40, 3))
        restore_module(compensation, torch.load(kept, weights_only=True))
    else:
        compensation = iterate(targets, first_gaussians(targets, config), grid, config, None).compensation.cpu()
        if kept:
            with atomic_path(kept) as path:
                torch.save(compensation.state_dict(), path)
    return dataclasses.replace(targets, images=compensation.correct(targets.images, targets.views))


def iterate(
    targets: Targets, gaussians: Gaussians, grid: FrameGrid, config: ReconstructConfig, state: Path | None
) -> GaussianFit:
    """One fit from its first Gaussians to its last iteration, with progress and previews.

    Args:
        state: file to go on from where there is one, and to save to; None keeps nothing.
    """
    fit = GaussianFit(targets.to(fitting_device(config)), gaussians, config)
    frames, views = config.gaussians.frames_per_step, config.gaussians.views_per_step
    affine_maps = 12 * frames * config.gaussians.count
    with one_thread(max(targets.elements(frames * views), affine_maps)):
        run_fit(
            fit,
            config,
            config.gaussians.static_iterations,
            status=lambda: f"{len(fit.gaussians)} Gaussians",
            state=state,
            preview=lambda path: write_preview(bake(fit, grid), grid, path),
        )
    return fit


@torch.no_grad()
def bake(fit: GaussianFit, grid: FrameGrid) -> GaussianAsset:
    """The fit's state as an asset; without motion (static stage) every frame is the canonical one."""
    g = fit.gaussians
    frames = torch.arange(grid.shape[1])
    linear, means = fit.carried(frames)
    linear, means = linear.expand(len(frames), len(g), 3, 3), means.expand(len(frames), -1, -1)
    means, covariance, opacity, colour, linear = (
        part.cpu().clone() for part in (means, g.covariance(), g.opacity(), g.colour.clamp(0, 1), linear)
    )
    return GaussianAsset(means, covariance, opacity, colour, linear, grid.fps, scene_info(grid))
