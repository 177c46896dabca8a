"""Random cameras of a step, as threestudio draws them: rings of views, or single cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.cameras import Cameras

from .guidance.base import Draws

Bounds = tuple[float, float]


@dataclass(frozen=True)
class CameraRange:
    """From where a step looks at the scene; all angles in degrees.

    Attributes:
        distance: world units; or, if `relative`, a share of the distance at which a scene of radius 1 fills the
            picture's height: the distance is then divided by tan(fov_y / 2).
        zoom: factor on the field of view, drawn after the distance is set.
        spread_azimuths: single cameras of a batch share the azimuths out between them instead of drawing freely.
    """

    distance: Bounds = (2.5, 3.0)
    fov_y: Bounds = (15.0, 60.0)
    elevation: Bounds = (0.0, 30.0)
    azimuth: Bounds = (-180.0, 180.0)
    relative: bool = False
    zoom: Bounds = (1.0, 1.0)
    spread_azimuths: bool = True


def ring(bounds: CameraRange, scenes: int, views: int, draws: Draws) -> tuple[Cameras, ...]:
    """For each scene, `views` cameras evenly spaced in azimuth one elevation and lens; [views, 1] each."""
    azimuth = ring_azimuths(draws.uniform("azimuth", scenes), views, bounds.azimuth)
    return _cameras(bounds, azimuth, draws)


def single(bounds: CameraRange, scenes: int, draws: Draws) -> tuple[Cameras, ...]:
    """One camera [1, 1] per scene."""
    u = draws.uniform("azimuth", scenes)
    if bounds.spread_azimuths:
        u = (u + torch.arange(scenes, dtype=torch.float64)) / scenes
    return _cameras(bounds, _between(bounds.azimuth, u)[:, None], draws)


def ring_azimuths(u: Tensor, views: int, bounds: Bounds) -> Tensor:
    """Azimuths [N, views] of rings that start at a random place: (u + k) / views of the range; u is [N]."""
    return _between(bounds, (u[:, None] + torch.arange(views, dtype=torch.float64)) / views)


def elevations(u: Tensor, on_sphere: bool, bounds: Bounds) -> Tensor:
    """Elevations in degrees [N]: uniform in degrees, or the arcsine of a number uniform between the bounds' places.

    The places are linear in degrees, (elevation + 90) / 180, as in threestudio, so the second form is not quite
    uniform on the band.
    """
    if not on_sphere:
        return _between(bounds, u)
    low, high = ((bound + 90) / 180 for bound in bounds)
    return torch.rad2deg(torch.asin(2 * (u * (high - low) + low) - 1))


def relative_distance(distance: Tensor, fov_y: Tensor) -> Tensor:
    """The distance in world units of one given as a share of what fills the picture; fov_y in degrees."""
    return distance / torch.tan(torch.deg2rad(fov_y) / 2)


def _cameras(bounds: CameraRange, azimuth: Tensor, draws: Draws) -> tuple[Cameras, ...]:
    """Cameras of azimuths [N, V]; everything else is drawn once per scene."""
    scenes, views = azimuth.shape
    on_sphere = draws.uniform("elevation_form", 1).item() >= 0.5
    elevation = elevations(draws.uniform("elevation", scenes), on_sphere, bounds.elevation)
    fov_y = _between(bounds.fov_y, draws.uniform("fov_y", scenes))
    distance = _between(bounds.distance, draws.uniform("distance", scenes))
    if bounds.relative:
        distance = relative_distance(distance, fov_y)
    fov_y = fov_y * _between(bounds.zoom, draws.uniform("zoom", scenes))
    shape = (views, 1)
    return tuple(
        Cameras(elevation[n].expand(shape), azimuth[n][:, None], distance[n].expand(shape), fov_y[n].item())
        for n in range(scenes)
    )


def _between(bounds: Bounds, u: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * u
