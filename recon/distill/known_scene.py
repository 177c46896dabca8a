"""A scene that is known exactly, for runs without weights: a little knight of Gaussians that walks on the spot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.recon.render.renderer import Picture, render
from viewtime.recon.render.splats import Viewpoints


class Part(NamedTuple):
    """An ellipsoid: centre, half axes, colour, the joint it swings about, and by how much (radians)."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    colour: tuple[float, float, float]
    joint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    swing: float = 0.0


RED, STEEL, SKIN, BLUE = (0.75, 0.12, 0.12), (0.45, 0.48, 0.55), (0.9, 0.7, 0.5), (0.15, 0.25, 0.75)
# Front is -y, z is up; the face is at the front alone, and the cape at the back.
KNIGHT = (
    Part((0.0, 0.0, 0.02), (0.19, 0.13, 0.25), RED),
    Part((0.0, 0.0, 0.42), (0.15, 0.15, 0.16), STEEL),
    Part((0.0, -0.10, 0.41), (0.09, 0.08, 0.08), SKIN),
    Part((0.0, 0.15, 0.0), (0.16, 0.05, 0.28), BLUE),
    Part((0.27, 0.0, 0.06), (0.07, 0.07, 0.20), STEEL, (0.27, 0.0, 0.22), 0.7),
    Part((-0.27, 0.0, 0.06), (0.07, 0.07, 0.20), STEEL, (-0.27, 0.0, 0.22), -0.7),
    Part((0.10, 0.0, -0.38), (0.08, 0.08, 0.22), STEEL, (0.10, 0.0, -0.18), -0.6),
    Part((-0.10, 0.0, -0.38), (0.08, 0.08, 0.22), STEEL, (-0.10, 0.0, -0.18), 0.6),
)


class EndpointError(NamedTuple):
    """Means over points and instants as shares of the object's size: of all points and of those that move; then the
    same for a scene that stands still."""

    all: float
    moving: float
    all_still: float
    moving_still: float


@dataclass(frozen=True)
class KnownGaussians:
    """Gaussians of moving ellipsoids; half a swing to each side over t in [0, 1], none at t = 0.

    Attributes:
        position: [N, 3] at t = 0. variance: [N, 1]. colour: [N, 3]. joint: [N, 3]. swing: [N] radians about x.
    """

    position: Tensor
    variance: Tensor
    colour: Tensor
    joint: Tensor
    swing: Tensor

    @staticmethod
    def of(parts: tuple[Part, ...] = KNIGHT, per_part: int = 60) -> KnownGaussians:
        """Evenly spread over each part's inside, the same every time."""
        columns: list[list[Tensor]] = [[] for _ in range(5)]
        index = torch.arange(per_part) + 0.5
        height, turn = 1 - 2 * index / per_part, math.pi * (1 + 5**0.5) * index
        flat = (1 - height**2).sqrt()
        sphere = 0.75 * torch.stack([flat * turn.cos(), flat * turn.sin(), height], dim=1)
        for part in parts:
            half, fill = torch.tensor(part.half), torch.ones(per_part, 1)
            columns[0].append(torch.tensor(part.centre) + sphere * half)
            columns[1].append(fill * (0.33 * half.prod() ** (1 / 3)) ** 2)
            columns[2].append(fill * torch.tensor(part.colour))
            columns[3].append(fill * torch.tensor(part.joint))
            columns[4].append(fill[:, 0] * part.swing)
        return KnownGaussians(*(torch.cat(column) for column in columns))

    def at(self, time: float) -> Tensor:
        """Places [N, 3] at an instant in [0, 1]."""
        angle = self.swing * math.sin(math.pi * time)
        arm = self.position - self.joint
        cosine, sine = angle.cos(), angle.sin()
        y, z = cosine * arm[:, 1] - sine * arm[:, 2], sine * arm[:, 1] + cosine * arm[:, 2]
        return self.joint + torch.stack([arm[:, 0], y, z], dim=1)

    def picture(self, views: Viewpoints, times: list[float]) -> Picture:
        """Picture b from viewpoint b at times[b]."""
        means = torch.stack([self.at(time) for time in times])
        opacity = torch.full((1, len(self.position)), 0.9)
        return render(means, self.variance[None], opacity, self.colour[None], views)

    @torch.no_grad()
    def __call__(self, cameras: Cameras, times: Tensor, size: tuple[int, int]) -> Tensor:
        """As `KnownScene`: premultiplied RGB and opacity [V, F, 4, H, W]."""
        V, F = cameras.shape
        picture = self.picture(Viewpoints.of(cameras, *size), times.tolist() * V)
        return torch.cat([picture.rgb, picture.alpha], dim=1).unflatten(0, (V, F))

    def endpoint_error(self, displace: Callable[[Tensor, Tensor], Tensor], times: Tensor) -> EndpointError:
        """How far from their true places at t = 0 a backward deformation carries the points of the instants `times`.

        Args:
            displace: (points [N, 3] world, instants [N]) -> displacement [N, 3] in world units.
        """
        found, still, moving = [], [], self.swing != 0
        for time in times.tolist():
            points = self.at(time)
            carried = points + displace(points, torch.full((len(points),), time))
            found.append((carried - self.position).norm(dim=1) / self.extent)
            still.append((points - self.position).norm(dim=1) / self.extent)
        error, nothing = torch.stack(found), torch.stack(still)
        return EndpointError(*(float(v.mean()) for v in (error, error[:, moving], nothing, nothing[:, moving])))

    @property
    def extent(self) -> float:
        """Longest edge of the bounding box at t = 0, world units."""
        return float((self.position.amax(dim=0) - self.position.amin(dim=0)).max())
