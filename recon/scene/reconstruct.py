"""`viewtime reconstruct --method scene`: whole pictures, seen by cameras that stand anywhere, as Gaussians."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from viewtime.configs.schema.reconstruct import InitOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.export.films import write_path_film
from viewtime.recon.export.mesh_file import remove_mesh
from viewtime.recon.export.preview import write_preview
from viewtime.recon.fitting.resume import close_states, open_states
from viewtime.recon.fitting.score import WHOLE, held_out_scores, scores, write_scores
from viewtime.recon.fitting.targets import Targets, split_views
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.reconstruct import STATE, bake, iterate
from viewtime.recon.render.splats import Viewpoints
from viewtime.run_folder import start_run

from .cameras import placed, placing, scene_cameras
from .frame_points import FramePoints, read_frame_points
from .start import Pictures, first_gaussians, read_points, tracked_points

REACH = 50.0  # world units; nothing is too far away to belong to a scene


def reconstruct_scene(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Fit a scene and write the asset folder.

    Returns:
        Paths written: asset.json, gaussians.safetensors, path.mp4, preview.png, metrics.json.

    Raises:
        UserError: options that a scene does not have, broken pictures, fewer than two views, cameras that move or that
            cannot be found, or `out` cannot be written.
    """
    if config.imperfect.two_stage or config.init != InitOptions():
        raise UserError("--imperfect.two-stage and --init.… are of object grids; a scene starts from its tracks")
    torch.manual_seed(config.seed)
    grid = whole_pictures(grid)
    cameras = scene_cameras(grid, config.scene, config.seed)
    train, held_out = split_views(dataclasses.replace(grid, cameras=cameras), config.held_out)
    folder = start_run(out, "reconstruct", config, config.seed)
    open_states(out, train, config)
    started = time.perf_counter()
    asset, train, held_out = fit_scene(train, held_out, config, folder.folder / STATE)
    paths = _write(asset, train, held_out, config, out, time.perf_counter() - started)
    close_states(out)
    return paths


def whole_pictures(grid: FrameGrid) -> FrameGrid:
    """The grid as RGB, transparent parts on white.

    Raises:
        UserError: fewer than two views, or a pixel that is not finite.
    """
    V, F = grid.shape[:2]
    if V < 2:
        raise UserError(f"the grid has {V} view; a scene needs at least 2, better 8: sample more views")
    broken = (~torch.isfinite(grid.frames)).flatten(2).any(dim=2)
    if broken.any():
        view, frame = broken.nonzero()[0].tolist()
        raise UserError(
            f"{int(broken.sum())} of {V * F} cells have pixels that are not finite (view {view}, frame {frame}, ...): "
            "leave their views or frames out"
        )
    return dataclasses.replace(grid, frames=grid.rgb())


def fit_scene(
    train: FrameGrid, held_out: FrameGrid | None, config: ReconstructConfig, state: Path | None = None
) -> tuple[GaussianAsset, FrameGrid, FrameGrid | None]:
    """Track, lift, drop floaters, fit; the asset and both grids with the cameras of the asset's world.

    Args:
        train, held_out: RGB with cameras that stand still. state: see `iterate`.
    """
    pictures = Pictures.of(train, config.scene.still_threshold)
    if config.scene.tracks is not None:
        told = _of_training_views(config, train, held_out)
        points, moving = read_points(told, pictures, train.orbit, config)
    else:
        points, moving = tracked_points(pictures, train.orbit, config)
    similarity = placing(train.orbit, float(points.places[..., 2][points.visible].median()))
    train = dataclasses.replace(train, cameras=placed(train.orbit, similarity))
    if held_out is not None:
        held_out = dataclasses.replace(held_out, cameras=placed(held_out.orbit, similarity))
    points = dataclasses.replace(points, places=points.places * float(similarity.scale))
    gaussians = first_gaussians(points, moving, pictures, train.orbit, config)
    fit = iterate(targets_of(train, pictures, config.scene.background), gaussians, train, config, state)
    asset = bake(fit, train)
    asset.info["path"] = train.orbit.camera_to_world()[:, 0].tolist()
    asset.info["told_world"] = {
        "scale": float(similarity.scale), "rotation": similarity.rotation.tolist(),
        "translation": similarity.translation.tolist(),
    }  # fmt: skip
    return asset, train, held_out


def _of_training_views(config: ReconstructConfig, train: FrameGrid, held_out: FrameGrid | None) -> FramePoints:
    """The tracks' file is of all views; of these the held-out ones are left out."""
    count = len(train.frames) + (0 if held_out is None else len(held_out.frames))
    assert config.scene.tracks is not None
    told = read_frame_points(config.scene.tracks, count)
    return told.of_views([view for view in range(count) if view not in config.held_out])


def targets_of(grid: FrameGrid, pictures: Pictures, background: bool) -> Targets:
    """Whole pictures, opaque everywhere; without background what changes, on white."""
    V, F, _, H, W = grid.shape
    mask = torch.ones(V, F, 1, H, W) if background else pictures.changed[:, :, None].float()
    images = torch.cat([grid.frames * mask + (1 - mask), mask], dim=2)
    return Targets(images.contiguous(), torch.ones(V, F, dtype=torch.bool), Viewpoints.of(grid.orbit, H, W), REACH)


def _write(
    asset: GaussianAsset,
    train: FrameGrid,
    held_out: FrameGrid | None,
    config: ReconstructConfig,
    out: Path,
    seconds: float,
) -> list[Path]:
    """Scores of whole pictures, a film along the cameras, a preview, the asset; the paths written."""
    paths = [write_preview(asset, train, out / "preview.png")]
    record: dict = {"seconds": round(seconds, 2), "gaussians": asset.means.shape[1]}
    record["train"] = scores(rendered_like(asset, train), train, WHOLE)
    if held_out is not None:
        record["held_out"] = held_out_scores(rendered_like(asset, held_out), held_out, WHOLE)
    remove_mesh(out)  # of an earlier asset in this folder
    asset.info["scores"] = record
    paths = asset.save(out) + paths
    if config.orbit_seconds > 0:
        paths.append(write_path_film(asset, out / "path.mp4", seconds=config.orbit_seconds))
    paths.append(write_scores(record, out / "metrics.json"))
    return paths


def rendered_like(asset: GaussianAsset, grid: FrameGrid) -> FrameGrid:
    """The asset as RGB from a grid's cameras."""
    drawn = asset.render_grid(grid.orbit, *grid.shape[3:])
    return FrameGrid(drawn.rgb(), drawn.known, drawn.cameras, drawn.fps, drawn.provenance)
