"""`viewtime reconstruct`: a grid in, a 4D asset with mesh, videos and scores out."""

from __future__ import annotations

from pathlib import Path

from viewtime.configs.limits import check_limits
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.run_lock import alone_in
from viewtime.where import find_asset, find_grid

from .direct.reconstruct import reconstruct_direct
from .gaussians.reconstruct import reconstruct_gaussians
from .limits import LIMITS
from .nerf.reconstruct import reconstruct_nerf
from .scene.reconstruct import reconstruct_scene

METHODS = {
    "gaussians": reconstruct_gaussians,
    "nerf": reconstruct_nerf,
    "direct": reconstruct_direct,
    "scene": reconstruct_scene,
}


def run(config: ReconstructConfig) -> list[Path]:
    """Entry of the command."""
    source = config.grid.resolve() if config.grid.is_dir() else find_grid(config.grid)
    out = config.out or config.grid.parent / f"{source.name}-asset"
    found = find_grid(config.grid)
    if config.method == "nerf" and found.resolve() == (out / "grid").resolve():
        raise UserError(f"{found} is the input, and the NeRF's renders go there; choose another --out")
    grid = open_grid(config.grid)
    views, frames, _, height, width = grid.shape
    log.info(
        "grid: %s, %d views × %d frames of %d × %d px; method: %s, into %s",
        found, views, frames, width, height, config.method, out,
    )  # fmt: skip
    return write_asset(grid, config, out)


def write_asset(grid: FrameGrid, config: ReconstructConfig, out: Path) -> list[Path]:
    """Fit a grid by the method that the options name and write the asset folder; the paths written.

    Raises:
        UserError: an option is outside its limits, the grid cannot be reconstructed, or `out` cannot be written or
            holds the asset that the fit starts from.
    """
    check_limits(config, LIMITS)
    start = config.init.asset if config.init.source == "asset" else None
    if start is not None and find_asset(start).resolve() == out.resolve():
        raise UserError(
            f"{out} is the asset that the fit starts from, and its own would go there; choose another --out"
        )
    with alone_in(out):
        return METHODS[config.method](grid, config, out)
