"""Cameras of a run from its options: static, dynamic and spiral orbits, or a JSON trajectory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.cameras import DEFAULT_DISTANCE, DEFAULT_FOV_Y, Cameras
from viewtime.configs.schema.sample import CameraOptions
from viewtime.errors import UserError
from viewtime.json_files import checked, read_json


def make_cameras(
    options: CameraOptions,
    novel_views: int,
    frames: int,
    default_azimuths: tuple[float, ...] | None = None,
    default_elevation: float = 12.0,
) -> Cameras:
    """Cameras of all rows [1 + novel views, frames]; row 0 is the input view at azimuth 0.

    Args:
        default_azimuths, default_elevation: what the model was made for; the azimuths hold for exactly that
            number of novel views.

    Raises:
        UserError: a list of the wrong length, angles out of range, or a trajectory file that does not fit.
    """
    if options.trajectory is not None:
        return read_trajectory(Path(options.trajectory), 1 + novel_views, frames)
    azimuth = torch.tensor([0.0, *_azimuths(options, novel_views, default_azimuths)])
    if options.elevations:
        elevation = _per_row(options.elevations, 1 + novel_views, "--camera.elevations (the input view first)")
    else:
        value = default_elevation if options.elevation is None else options.elevation
        elevation = torch.full((1 + novel_views,), float(value))
    phase = torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1)
    moving = torch.ones(1 + novel_views, 1)
    moving[0] = 0  # the input view stays where the user's camera was
    azimuth_grid = azimuth[:, None].expand(-1, frames)
    elevation_grid = elevation[:, None].expand(-1, frames)
    if options.orbit in ("dynamic", "spiral"):
        azimuth_grid = azimuth_grid + moving * phase * options.turn
    if options.orbit == "spiral":
        elevation_grid = elevation_grid + moving * torch.sin(2 * math.pi * phase) * options.swing
    if (elevation_grid.abs() > 90).any():
        raise UserError(f"elevation {elevation_grid.abs().max():.1f} degrees; must lie between -90 and 90")
    if not 0 < options.distance < 1000:
        raise UserError(f"--camera.distance {options.distance:g}; must lie between 0 and 1000 object sizes")
    distance = torch.full_like(azimuth_grid, options.distance)
    return Cameras(elevation_grid, torch.remainder(azimuth_grid, 360.0), distance, DEFAULT_FOV_Y)


def _azimuths(options: CameraOptions, novel_views: int, default: tuple[float, ...] | None) -> list[float]:
    if options.azimuths:
        return _per_row(options.azimuths, novel_views, "--camera.azimuths (one per novel view)").tolist()
    if default is not None and len(default) == novel_views:
        return list(default)
    return [360.0 * view / (novel_views + 1) for view in range(1, novel_views + 1)]


def _per_row(values: tuple[float, ...], count: int, what: str) -> Tensor:
    if len(values) != count:
        raise UserError(f"{what} has {len(values)} values; {count} are needed")
    return torch.tensor(values, dtype=torch.float32)


def read_trajectory(path: Path, views: int, frames: int) -> Cameras:
    """A JSON file {"elevation": …, "azimuth": …, optionally "distance", "fov_y"} in degrees.

    Each value is a number, a list with one number per row (the input view first), or a list of such lists with one
    number per row and frame. `Cameras.to_json` writes such a file.

    Raises:
        UserError: no such file, not JSON, a missing key, or a wrong number of values.
    """
    if not path.is_file():
        raise UserError(f"no such trajectory file: {path}")
    record = read_json(path, dict[str, Any])
    for key in ("elevation", "azimuth"):
        if key not in record:
            have = ", ".join(map(str, record)) or "none"
            raise UserError(f"{path} lacks the key {key!r} (it has {have}); needed: elevation, azimuth, in degrees")
    grid = {key: _grid(record[key], views, frames, f"{path}, {key}") for key in ("elevation", "azimuth")}
    distance = _grid(record.get("distance", DEFAULT_DISTANCE), views, frames, f"{path}, distance")
    if (grid["elevation"].abs() > 90).any():
        raise UserError(f"{path}: elevation must lie between -90 and 90 degrees")
    fov_y = checked(record.get("fov_y", DEFAULT_FOV_Y), float, f"{path}, fov_y")
    return Cameras(grid["elevation"], grid["azimuth"], distance, fov_y)


def _grid(value: Any, views: int, frames: int, where: str) -> Tensor:
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{where}: not a number or a list of numbers: {error}") from error
    if tensor.ndim == 0:
        return tensor.expand(views, frames)
    wanted = (views,) if tensor.ndim == 1 else (views, frames)
    if tuple(tensor.shape) != wanted:
        raise UserError(
            f"{where} has shape {tuple(tensor.shape)}; the grid has {views} rows (input view first) × {frames} frames"
        )
    return tensor.reshape(views, -1).expand(views, frames)
