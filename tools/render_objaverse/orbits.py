"""Camera orbits of the training data (SV4D A.1, after SV3D): static ones and dynamic ones, any V and F.

Angles are in degrees. Cameras do not move during the clip: every value is constant along the frame axis.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from viewtime.cameras import Cameras, regular_orbit
from viewtime.errors import UserError

from .framing import BASE_DISTANCE, FOV_Y

STATIC_ELEVATION = (-5.0, 30.0)
MAX_ELEVATION = 75.0


def static_orbit(
    views: int,
    frames: int,
    generator: np.random.Generator,
    *,
    elevation: tuple[float, float] = STATIC_ELEVATION,
    distance: float = BASE_DISTANCE,
    fov_y: float = FOV_Y,
) -> Cameras:
    """Regular azimuths from 0 and one elevation for all views, uniform in `elevation`."""
    _check(views, frames)
    height = np.full(views, generator.uniform(*elevation))
    return _cameras(height, np.arange(views) * 360.0 / views, frames, distance, fov_y)


def dynamic_orbit(
    views: int,
    frames: int,
    generator: np.random.Generator,
    *,
    elevation: tuple[float, float] = STATIC_ELEVATION,
    amplitude: float = 30.0,
    harmonics: int = 4,
    azimuth_jitter: float = 0.25,
    max_elevation: float = MAX_ELEVATION,
    distance: float = BASE_DISTANCE,
    fov_y: float = FOV_Y,
) -> Cameras:
    """Elevation is a random weighted sum of sinusoids over the orbit, smoothed by a small kernel and clamped;
    azimuths are regular with noise of `azimuth_jitter` steps (uniform, either side; view 0 stays at 0)."""
    _check(views, frames)
    if not 0 <= azimuth_jitter < 0.5:
        raise UserError(f"azimuth_jitter {azimuth_jitter}: at least 0 and below 0.5, or views change their order")
    phase = np.arange(views) * 2 * np.pi / views
    weights = generator.dirichlet(np.ones(harmonics))
    offsets = generator.uniform(0, 2 * np.pi, harmonics)
    waves = np.sin(phase[:, None] * np.arange(1, harmonics + 1) + offsets)
    height = generator.uniform(*elevation) + amplitude * (waves @ weights)
    if views >= 3:
        # The orbit is closed, so the kernel wraps around.
        height = 0.25 * np.roll(height, 1) + 0.5 * height + 0.25 * np.roll(height, -1)
    height = np.clip(height, -max_elevation, max_elevation)
    jitter = generator.uniform(-azimuth_jitter, azimuth_jitter, views)
    jitter[0] = 0.0
    azimuth = np.mod((np.arange(views) + jitter) * 360.0 / views, 360.0)
    return _cameras(height, azimuth, frames, distance, fov_y)


def make_orbit(
    kind: Literal["static", "dynamic"], views: int, frames: int, generator: np.random.Generator, **options: Any
) -> Cameras:
    """`static_orbit` or `dynamic_orbit` by name."""
    if kind not in ("static", "dynamic"):
        raise UserError(f"orbit {kind!r}: static or dynamic")
    maker = static_orbit if kind == "static" else dynamic_orbit
    return maker(views, frames, generator, **options)  # type: ignore[arg-type]


def regular_views(views: int, frames: int, *, azimuth_range: float = 360.0, elevation: float = 10.0) -> Cameras:
    """Evenly spaced views for previews and measurements, nothing random."""
    return regular_orbit(
        views, frames, elevation=elevation, distance=BASE_DISTANCE, fov_y=FOV_Y, azimuth_range=azimuth_range
    )


def with_distance(cameras: Cameras, distance: float) -> Cameras:
    """The same directions from another distance."""
    return Cameras(cameras.elevation, cameras.azimuth, torch.full_like(cameras.distance, distance), cameras.fov_y)


def _check(views: int, frames: int) -> None:
    if views < 1 or frames < 1:
        raise UserError(f"{views} views x {frames} frames: at least 1 of each")


def _cameras(height: np.ndarray, azimuth: np.ndarray, frames: int, distance: float, fov_y: float) -> Cameras:
    def over_frames(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None].repeat(1, frames)

    return Cameras(over_frames(height), over_frames(azimuth), torch.full((len(azimuth), frames), distance), fov_y)
