"""`viewtime reconstruct --method direct`: what the generator's solids are already, as an asset, without a fit."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from viewtime.configs.schema.reconstruct import InitOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.export.mesh_file import load_mesh
from viewtime.recon.export.web_page import write_page
from viewtime.recon.fitting.loop import scene_info
from viewtime.recon.fitting.targets import make_targets, mask_from_colour, split_views
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.reconstruct import write_folder
from viewtime.run_folder import start_run
from viewtime.sample.models.loading import load_model
from viewtime.sample.models.mini_model import MiniModel

from .shell import shell_of
from .tracks import track


def reconstruct_direct(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Make the asset of a grid's input view and write its folder, and a page that plays it.

    The other views of the grid are what its mesh is chosen and painted by, and what it is scored against.

    Raises:
        UserError: options of a fit's start, no view of the grid is given whole, the weights are no mini model with a
            solid, or nothing is to be seen.
    """
    train, held_out = split_views(grid, config.held_out)
    start_run(out, "reconstruct", config, config.seed)
    if config.init != InitOptions():
        raise UserError(
            "--init.… starts a fit, and --method direct makes none; leave it out or take --method gaussians"
        )
    started = time.perf_counter()
    asset = direct_asset(train, config)
    seconds = time.perf_counter() - started
    paths = write_folder(asset, make_targets(train), train, held_out, config, out, seconds)
    mesh = load_mesh(out) if config.mesh.enabled else None
    return [*paths, write_page(mesh, out / "asset.html", asset)]


@torch.no_grad()
def direct_asset(grid: FrameGrid, config: ReconstructConfig) -> GaussianAsset:
    """Gaussians of the first frame's shell, carried over the shells of the others."""
    view = input_view(grid)
    model = load_model(config.direct.weights, torch.device("cpu"), torch.float32)
    if not isinstance(model, MiniModel) or model.network.frustum is None:
        raise UserError(
            f"--direct.weights {config.direct.weights}: {model.traits.name} has no solid; use mini-generalist"
        )
    try:
        model.resize(config.direct.cells)
    except UserError as error:
        raise UserError(f"--direct.cells {config.direct.cells}: {error}") from error
    cameras = grid.orbit[view : view + 1]
    frames = grid.frames
    if broken := (~torch.isfinite(frames[view]).flatten(1).all(dim=1)).nonzero().flatten().tolist():
        raise UserError(f"view {view}, the input, has pixels that are not finite in frames {broken}: leave those out")
    if not grid.has_alpha:
        frames = torch.cat([frames, mask_from_colour(frames)], dim=2)
    solids = model.solids(frames[view], cameras)
    shells = [shell_of(solid, cameras, frame) for frame, solid in enumerate(solids)]
    with torch.enable_grad():
        motion = track(shells, config.seed)
    first, frames = shells[0], torch.arange(len(shells))
    linear, means = motion.affine(first.position, frames)
    linear = linear.expand(len(frames), len(first), 3, 3).clone()
    info = {**scene_info(grid), "weights": config.direct.weights}
    return GaussianAsset(means.clone(), first.covariance, first.opacity, first.colour, linear, grid.fps, info)


def input_view(grid: FrameGrid) -> int:
    """The first view that was given, not made, at every frame.

    Raises:
        UserError: there is none.
    """
    given = grid.known.all(dim=1).nonzero().flatten().tolist()
    if not given:
        raise UserError("no view of this grid was given in all frames; the direct asset starts from the input video")
    return given[0]
