"""`viewtime reconstruct`: a grid in, a 4D asset with mesh, videos and scores out."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import torch

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.images import contact_sheet
from viewtime.log import log
from viewtime.recon.export.films import write_orbit
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import save_mesh
from viewtime.recon.fitting.loop import run_fit, scene_info
from viewtime.recon.fitting.score import held_out_scores, scores
from viewtime.recon.fitting.targets import Targets, make_targets
from viewtime.recon.gaussians.asset import GaussianAsset, Renderable
from viewtime.recon.gaussians.compensation import Compensation
from viewtime.recon.gaussians.fit import GaussianFit, restore_module
from viewtime.recon.gaussians.initialise import first_gaussians
from viewtime.recon.surface.mesh_choice import best_mesh
from viewtime.run_folder import start_run

STATE, FIRST_PASS = "state.pt", "first_pass.pt"


def run(config: ReconstructConfig) -> list[Path]:
    """Entry of the command."""
    out = config.out or config.grid.with_name(config.grid.name + "-asset")
    return reconstruct(FrameGrid.load(config.grid), config, out)


def split_views(grid: FrameGrid, held_out: tuple[int, ...]) -> tuple[FrameGrid, FrameGrid | None]:
    """Training views and held-out views.

    Raises:
        UserError: a held-out view that the grid does not have.
    """
    V = grid.shape[0]
    wrong = [view for view in held_out if not 0 <= view < V]
    if wrong:
        raise UserError(f"held-out views {wrong}: the grid has views 0 to {V - 1}")
    if not held_out:
        return grid, None
    return grid[[view for view in range(V) if view not in held_out]], grid[list(held_out)]


def reconstruct(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Fit a grid and write the asset folder.

    Returns:
        Paths written: asset.json, gaussians.safetensors, mesh.safetensors, asset.glb, orbit.mp4, preview.png,
        metrics.json.

    Raises:
        UserError: the grid cannot be reconstructed (see `make_targets`), or `out` cannot be written.
    """
    if config.method == "nerf":
        from viewtime.recon.nerf.reconstruct import reconstruct_nerf

        return reconstruct_nerf(grid, config, out)
    torch.manual_seed(config.seed)
    train, held_out = split_views(grid, config.held_out)
    folder = start_run(out, "reconstruct", config, config.seed)
    fit, seconds = fit_gaussians(train, config, folder.folder)
    asset = bake(fit, train)
    paths = [write_preview(asset, train, out / "preview.png")]
    record: dict = {
        "seconds": round(seconds, 2),
        "gaussians": len(fit.gaussians),
        "train": scores(asset.render_grid(_cameras(train), *train.shape[3:]), train),
    }
    if held_out is not None:
        record["held_out"] = held_out_scores(asset.render_grid(_cameras(held_out), *held_out.shape[3:]), held_out)
    if config.mesh.enabled:
        mesh, iou = best_mesh(asset, fit.targets.to("cpu"), _cameras(train), config.mesh)
        record["mesh"] = {"train_iou": iou, "vertices": mesh.positions.shape[1], "triangles": len(mesh.triangles)}
        paths += [save_mesh(mesh, out), write_animated(mesh, out / "asset.glb", config.mesh)]
    asset.info["scores"] = record
    paths = asset.save(out) + paths
    if config.orbit_seconds > 0:
        paths.append(write_orbit(asset, out / "orbit.mp4", seconds=config.orbit_seconds))
    with atomic_path(out / "metrics.json") as path:
        path.write_text(json.dumps(record, indent=1))
    for name in (STATE, FIRST_PASS):
        (out / name).unlink(missing_ok=True)
    shown = record.get("held_out", record["train"])
    log.info(
        "%s views: PSNR %.2f dB, mask IoU %.3f", "held-out" if held_out else "training", shown["psnr"], shown["iou"]
    )
    return [*paths, out / "metrics.json"]


def _cameras(grid: FrameGrid) -> Cameras:
    assert grid.cameras is not None
    return grid.cameras


def fit_gaussians(grid: FrameGrid, config: ReconstructConfig, folder: Path | None = None) -> tuple[GaussianFit, float]:
    """Run both stages with progress, preview and saved states; the fit and its seconds.

    Raises:
        UserError: the grid cannot be reconstructed, or `two_stage` has nothing to correct.
    """
    targets = make_targets(grid)
    started = time.perf_counter()
    if config.imperfect.two_stage:
        half = dataclasses.replace(
            config.gaussians,
            static_iterations=config.gaussians.static_iterations // 2,
            dynamic_iterations=config.gaussians.dynamic_iterations // 2,
        )
        config = dataclasses.replace(config, gaussians=half)
        targets = _corrected(targets, grid, config, folder)
    fit = _iterate(targets, grid, config, folder and folder / STATE)
    return fit, time.perf_counter() - started


def _corrected(targets: Targets, grid: FrameGrid, config: ReconstructConfig, folder: Path | None) -> Targets:
    """First pass of the two-stage refinement: its pictures without the offsets and gains that it learned."""
    if not (config.imperfect.offset or config.imperfect.exposure):
        raise UserError("--imperfect.two-stage corrects offsets and gains: add --imperfect.offset or .exposure")
    V, F, _, _ = targets.shape
    kept = folder and folder / FIRST_PASS
    if kept and config.resume and kept.is_file():
        compensation = Compensation(config.imperfect, V, F, torch.zeros(40, 3))
        restore_module(compensation, torch.load(kept, weights_only=True))
    else:
        compensation = _iterate(targets, grid, config, None).compensation.cpu()
        if kept:
            with atomic_path(kept) as path:
                torch.save(compensation.state_dict(), path)
    return dataclasses.replace(targets, images=compensation.correct(targets.images, targets.views))


def fitting_device(config: ReconstructConfig) -> torch.device:
    """Where the fit runs.

    Raises:
        UserError: no such device here, or the method cannot use it.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    if config.device == "cuda" and config.method == "nerf":
        raise UserError("--device cuda is for --method gaussians; the NeRF runs on the CPU")
    return torch.device("cuda" if cuda and config.device != "cpu" and config.method == "gaussians" else "cpu")


def _iterate(targets: Targets, grid: FrameGrid, config: ReconstructConfig, state: Path | None) -> GaussianFit:
    """One fit from its first Gaussians to its last iteration."""
    fit = GaussianFit(targets.to(fitting_device(config)), first_gaussians(targets, config), config)
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
    identity = torch.eye(3).expand(len(frames), len(g), 3, 3)
    if fit.motion is None:
        linear, means = identity, g.position.expand(len(frames), -1, -1)
    else:
        linear, means = fit.motion.affine(g.position, frames)
        linear = linear.expand(len(frames), len(g), 3, 3)
    means, covariance, opacity, colour, linear = (
        part.cpu().clone() for part in (means, g.covariance(), g.opacity(), g.colour.clamp(0, 1), linear)
    )
    return GaussianAsset(means, covariance, opacity, colour, linear, grid.fps, scene_info(grid))


def write_preview(asset: Renderable, grid: FrameGrid, path: Path, views: int = 2, frames: int = 6) -> Path:
    """Rows of the grid and, under each, the asset from the same cameras."""
    rows = torch.linspace(0, grid.shape[0] - 1, min(views, grid.shape[0])).round().long().tolist()
    columns = torch.linspace(0, grid.shape[1] - 1, min(frames, grid.shape[1])).round().long()
    rendered = asset.render_grid(_cameras(grid)[rows], *grid.shape[3:]).rgb()
    truth = torch.nan_to_num(grid.rgb(), nan=1.0)
    table = [picture[columns] for row, mine in zip(rows, rendered) for picture in (truth[row], mine)]
    labels = [text for row in rows for text in (f"view {row}", "asset")]
    return contact_sheet(
        torch.stack(table), path, row_labels=labels, column_labels=[f"frame {int(c)}" for c in columns]
    )
