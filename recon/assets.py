"""The Python API of reconstruction: a grid in, an asset out, and an asset folder read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.dnerf import open_grid
from viewtime.grid import FrameGrid
from viewtime.where import find_asset

from .command import write_asset
from .gaussians.asset import GaussianAsset, read_record
from .nerf.asset import NerfAsset


def reconstruct(
    grid: FrameGrid | str | Path, out: str | Path, *, preset: str = "fast", **options: Any
) -> GaussianAsset | NerfAsset:
    """Fit a grid of views × frames and write the asset folder, as `viewtime reconstruct` does.

    >>> steps = {"count": 150, "static_iterations": 20, "dynamic_iterations": 40}
    >>> asset = reconstruct(grid, "asset", gaussians=steps, mesh={"enabled": False}, orbit_seconds=0.0)
    >>> asset.frames == grid.shape[1]
    True

    Args:
        grid: RGB or RGBA with cameras, or the folder of one.
        out: folder to write; a run that was interrupted there goes on.
        preset: fast, quality, sv4d-nerf or scene, or a YAML file.
        options: those of the command, sections as mappings.

    Raises:
        UserError: the grid cannot be reconstructed, an unknown option, or `out` cannot be written.
    """
    source = "grid" if isinstance(grid, FrameGrid) else str(grid)
    mapping = load_preset(preset, "reconstruct")
    for name, value in options.items():
        mapping[name] = {**mapping.get(name, {}), **value} if isinstance(value, dict) else value
    config = build(ReconstructConfig, {**mapping, "grid": source, "preset": preset}, "reconstruct")
    write_asset(grid if isinstance(grid, FrameGrid) else open_grid(grid), config, Path(out))
    return load_asset(out)


def load_asset(folder: str | Path) -> GaussianAsset | NerfAsset:
    """Read the asset that a path means (a folder that `reconstruct` wrote); it renders any view at any time.

    >>> asset = load_asset("asset")
    >>> asset.render_grid(grid.cameras, 32, 32).shape[2:]
    (4, 32, 32)

    Raises:
        UserError: no asset there or several, a newer format, or a damaged file.
    """
    folder = find_asset(folder)
    return NerfAsset.load(folder) if read_record(folder).method == "nerf" else GaussianAsset.load(folder)
