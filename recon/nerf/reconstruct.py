"""`viewtime reconstruct --method nerf`: fit, films, scores, and Gaussians fitted to its renders for the mesh."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.recon.export.films import write_fixed_view, write_orbit
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import remove_mesh
from viewtime.recon.export.preview import write_preview
from viewtime.recon.fitting.azimuth_sign import mirrored_fits_better
from viewtime.recon.fitting.device import fitting_device
from viewtime.recon.fitting.loop import run_fit, scene_info
from viewtime.recon.fitting.resume import close_states, open_states
from viewtime.recon.fitting.score import scores, write_scores
from viewtime.recon.fitting.targets import make_targets, split_views
from viewtime.recon.gaussians.initialise import check_start
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.surface.mesh_choice import best_mesh
from viewtime.run_folder import start_run

from .asset import NerfAsset
from .fit import NerfFit

STATE = "nerf_state.pt"
GAUSSIANS = "gaussians"


def reconstruct_nerf(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Fit a grid and write the asset folder.

    Returns:
        Paths written: asset.json, nerf.safetensors, grid (renders of every view and frame), orbit.mp4, view_0.mp4,
        depth.mp4, normal.mp4, preview.png, metrics.json; with a mesh asset.glb and gaussians, an asset of its own.

    Raises:
        UserError: the grid cannot be reconstructed (see `make_targets`), the mesh's Gaussians cannot start from what
            the options name, or `out` cannot be written.
    """
    train, held_out = split_views(grid, config.held_out)
    names = [view for view in range(grid.shape[0]) if view not in config.held_out]
    folder = start_run(out, "reconstruct", config, config.seed)
    if config.mesh.enabled:
        check_start(config, grid.shape[1])  # what the mesh's Gaussians start from, long after now
    open_states(out, train, config)
    remove_mesh(out)  # of an earlier asset in this folder; and its Gaussians, which stand in for a NeRF's
    (out / GAUSSIANS / "asset.json").unlink(missing_ok=True)
    fit, seconds = fit_nerf(train, config, folder.folder, names)
    asset = bake_nerf(fit, train)
    rendered = asset.render_grid(grid.orbit, *grid.shape[3:])
    record: dict = {"seconds": round(seconds, 2), "train": scores(rendered[names], train)}
    if held_out is not None:
        record["held_out"] = scores(rendered[list(config.held_out)], held_out)
    rendered.save(out / "grid")
    asset.info["scores"] = record
    paths = [*asset.save(out), out / "grid", write_preview(asset, train, out / "preview.png")]
    paths += write_films(asset, config, out)
    if config.mesh.enabled:
        log.info("fitting Gaussians to the NeRF's renders for the mesh; --mesh.no-enabled leaves it out")
        paths += write_mesh(asset, train, config, out, record)
        asset.save(out)
    paths.append(write_scores(record, out / "metrics.json"))
    close_states(out)
    return paths


def fit_nerf(
    grid: FrameGrid, config: ReconstructConfig, folder: Path | None = None, view_names: list[int] | None = None
) -> tuple[NerfFit, float]:
    """Run both stages with progress, preview and saved states; the fit and its seconds.

    Args:
        view_names: numbers of the views in the whole grid, by which files of normals are named.
    """
    targets = make_targets(grid)
    mirrored_fits_better(targets, grid.orbit)
    targets = targets.to(fitting_device(config))
    started = time.perf_counter()
    fit = NerfFit(targets, config, view_names)
    run_fit(
        fit,
        config,
        config.nerf.static_iterations,
        status=lambda: f"{fit.samples:.1f} samples per ray",
        state=folder and folder / STATE,
        preview=lambda path: write_preview(bake_nerf(fit, grid), grid, path),
    )
    fit.look_around()
    return fit, time.perf_counter() - started


def bake_nerf(fit: NerfFit, grid: FrameGrid) -> NerfAsset:
    """The state of a fit as an asset, which shares the fit's tensors."""
    return NerfAsset(fit.field, fit.occupancy.block, fit.options, grid.fps, fit.step_length, scene_info(grid))


def write_mesh(asset: NerfAsset, train: FrameGrid, config: ReconstructConfig, out: Path, record: dict) -> list[Path]:
    """The way to an animated mesh: Gaussians, which move forward in time, are fitted to the NeRF's renders.

    Inverting the backward deformation gives wrong tracks: the canonical volume holds copies of limbs of other frames.
    """
    seen = asset.render_grid(train.orbit.with_middles(), *train.shape[3:])
    fit, seconds = fit_gaussians(seen, dataclasses.replace(config, method="gaussians", early_stop=0.0))
    gaussians = bake(fit, train)
    mesh, iou = best_mesh(gaussians, make_targets(train), train.orbit, config.mesh)
    record["gaussians"] = {
        "seconds": round(seconds, 2), "count": len(fit.gaussians),
        "train": scores(gaussians.render_grid(train.orbit, *train.shape[3:]), train),
    }  # fmt: skip
    record["mesh"] = {"train_iou": iou, "vertices": mesh.positions.shape[1], "triangles": len(mesh.triangles)}
    (out / GAUSSIANS).mkdir(exist_ok=True)
    gaussians.save(out / GAUSSIANS)
    return [write_animated(mesh, out / "asset.glb", config.mesh), out / GAUSSIANS]


def write_films(asset: NerfAsset, config: ReconstructConfig, out: Path) -> list[Path]:
    """Orbit in colour, depth and normals, and the clip from the first camera."""
    if config.orbit_seconds <= 0:
        return []
    size = max(asset.info["size"])
    names = {"colour": "orbit.mp4", "depth": "depth.mp4", "normal": "normal.mp4"}
    films = [
        write_orbit(asset, out / name, seconds=config.orbit_seconds, size=size, kind=kind)
        for kind, name in names.items()
    ]
    return [*films, write_fixed_view(asset, out / "view_0.mp4", 0.0, size)]
