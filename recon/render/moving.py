"""Gaussians that move, and what films, previews and surfaces need of an asset, however it is represented."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.grid import FrameGrid

from .renderer import Picture, render
from .splats import SCREEN_BLUR, Viewpoints

# What lies between the fit's pixel centres was never compared with anything and shows as dots in finer pictures: there
# the colours are smoothed, and the outline a little, by so many square pixels of the fit.
FINER_COLOUR_BLUR, FINER_OUTLINE_BLUR = 0.3, 0.03
FLATTEST = 1e-12  # variance that a Gaussian has at least where a covariance must be inverted, square world units
ROUNDING = 1e-5  # share of its trace by which float32 may make a covariance's variance along an axis negative


class Renderable(Protocol):
    """What films and previews need of an asset, however it is represented."""

    @property
    def frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def info(self) -> dict[str, Any]: ...

    def render(self, views: Viewpoints, times: list[float], with_depth: bool = False) -> Picture: ...

    def render_grid(self, cameras: Cameras, height: int, width: int) -> FrameGrid: ...


@dataclass(frozen=True)
class MovingGaussians:
    """Gaussians that move, independent of how they were fitted.

    Attributes:
        means: [F, N, 3] world. covariance: [N, 1] variances or canonical matrices [N, 3, 3]. opacity: [N] in (0, 1).
        colour: [N, 3] in [0, 1]. linear: [F, N, 3, 3], what each frame does to the neighbourhood of a Gaussian.
        fps: frames per second. info: plain values (fov_y, distance, elevation of the grid, scores).
    """

    means: Tensor
    covariance: Tensor
    opacity: Tensor
    colour: Tensor
    linear: Tensor
    fps: float
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """F."""
        return self.means.shape[0]

    def at(self, time: float) -> tuple[Tensor, Tensor]:
        """Means [N, 3] and covariance at any time in frames (0 … F-1), linear between frames."""
        time = min(max(time, 0.0), self.frames - 1.0)
        low = min(int(time), max(0, self.frames - 2))
        high, weight = min(low + 1, self.frames - 1), time - low
        means = torch.lerp(self.means[low], self.means[high], weight)
        if self.covariance.shape[-1] == 1:
            return means, self.covariance
        linear = torch.lerp(self.linear[low], self.linear[high], weight)
        return means, linear @ self.covariance @ linear.transpose(-1, -2)

    def finer(self, views: Viewpoints) -> float:
        """Square pixels of these pictures in one of the fit, less one; 0 where these are no finer."""
        if "size" not in self.info or "fov_y" not in self.info:
            return 0.0
        fitted = 0.5 * self.info["size"][0] / math.tan(math.radians(self.info["fov_y"] / 2))
        square = (float(views.focal.mean()) / fitted) ** 2
        return square - 1 if square > 1.01 else 0.0

    @torch.no_grad()
    def render(self, views: Viewpoints, times: list[float], with_depth: bool = False) -> Picture:
        """Picture b from viewpoint b at times[b]."""
        posed = [self.at(time) for time in times]
        means, covariance = (torch.stack(values) for values in zip(*posed))
        finer = self.finer(views)
        blurs = [FINER_OUTLINE_BLUR, FINER_COLOUR_BLUR] if finer else [0.0]
        drawn = [
            render(
                means, covariance[:1] if covariance.shape[-1] == 1 else covariance, self.opacity[None],
                self.colour[None], views, with_depth=with_depth, screen_blur=SCREEN_BLUR + finer * blur,
            )
            for blur in blurs
        ]  # fmt: skip
        picture, smooth = drawn[0], drawn[-1]
        if not finer:
            return picture
        return Picture(smooth.rgb / smooth.alpha.clamp(min=1e-4) * picture.alpha, picture.alpha, picture.depth)

    def render_grid(self, cameras: Cameras, height: int, width: int) -> FrameGrid:
        """RGBA grid [V, F, 4, H, W] from the given cameras, frame f at time f."""
        V, F = cameras.shape
        views = Viewpoints.of(cameras, height, width)
        rows = []
        for view in range(V):
            cells = torch.arange(view * F, (view + 1) * F)
            picture = self.render(views[cells], [float(f) for f in range(F)])
            straight = picture.rgb / picture.alpha.clamp(min=1e-4)
            rows.append(torch.cat([straight.clamp(0, 1), picture.alpha.clamp(0, 1)], dim=1))
        known = torch.zeros(V, F, dtype=torch.bool)
        return FrameGrid(torch.stack(rows), known, cameras, self.fps, {"source": "gaussians"})
