"""A stream without files: coloured discs that orbit and move, seen from every view. For tests, dry runs, benchmarks.

Sample i of a seed is always the same grid, whichever process draws it: with W processes and batches of B, process r
draws samples (n W + r) B … of its n-th batch, so that W processes together see what one process with batch W B sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.train.objective.losses import sample_generator


def synthetic_grid(
    seed: int, index: int, views: int, frames: int, channels: int, size: int, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """(x0 [V, F, C, H, W] in [−1, 1], azimuth [V, F] degrees): two discs on a turntable, one of them climbing."""
    random = torch.rand(12, generator=sample_generator(seed, index, purpose=7))
    azimuth = (torch.arange(views) * 360.0 / views)[:, None].expand(views, frames).contiguous()
    width = width or size
    y, x = torch.linspace(-1, 1, size)[:, None], torch.linspace(-1, 1, width)[None, :] * width / size
    grid = torch.full((views, frames, channels, size, width), 1.0)
    grid[:, :, 3:] = -1.0
    time = torch.linspace(0, 1, frames)
    for disc in range(2):
        phase, radius, height = random[disc] * 2 * math.pi, 0.3 + 0.4 * random[2 + disc], random[4 + disc] - 0.5
        colour = random[6 + 3 * disc : 9 + 3 * disc] * 2 - 1
        angle = torch.deg2rad(azimuth) + phase
        centre_x = radius * torch.cos(angle)
        centre_y = (height + 0.5 * time * disc).expand(views, frames)
        inside = (x - centre_x[..., None, None]) ** 2 + (y - centre_y[..., None, None]) ** 2 < 0.09
        for channel in range(channels):
            value = colour[channel] if channel < 3 else torch.tensor(1.0)
            grid[:, :, channel] = torch.where(inside, value, grid[:, :, channel])
    return grid, azimuth


@dataclass(frozen=True)
class SyntheticOptions:
    """Keys of `data.options`. `fixed` repeats the first that many samples; `width` makes other cells than squares."""

    views: int = 3
    frames: int = 2
    channels: int = 4
    size: int = 16
    fixed: int = 0
    width: int | None = None

    def __post_init__(self) -> None:
        for name in ("views", "frames", "channels", "size"):
            if getattr(self, name) < 1:
                raise UserError(f"data.options.{name} {getattr(self, name)}; must be at least 1")


class SyntheticStream:
    """See the module."""

    def __init__(self, batch_size: int, seed: int, rank: int, world: int, **options: Any) -> None:
        o = build(SyntheticOptions, options, "data.options")
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.shape, self.fixed, self.position = (o.views, o.frames, o.channels, o.size, o.width), o.fixed, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            first = (self.position * self.world + self.rank) * self.batch_size
            self.position += 1
            yield self.batch([first + offset for offset in range(self.batch_size)])

    def batch(self, indices: list[int]) -> dict[str, Any]:
        """The batch of these samples; view 0 is known."""
        wanted = [index % self.fixed if self.fixed else index for index in indices]
        grids = [synthetic_grid(self.seed, index, *self.shape) for index in wanted]
        x0, azimuth = torch.stack([g for g, _ in grids]), torch.stack([a for _, a in grids])
        known = torch.zeros(x0.shape[:3], dtype=torch.bool)
        known[:, 0] = True
        cond = {
            "known": known,
            "known_frames": x0 * known[..., None, None, None],
            "azimuth": azimuth,
            "elevation": torch.full_like(azimuth, 12.0),
        }
        return {"x0": x0, "cond": cond, "ids": [f"synthetic/{index}" for index in wanted]}

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind that many batches."""
        self.position = int(state["position"])


def synthetic_stream(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> SyntheticStream:
    """Factory of `registry.STREAMS`.

    Raises:
        UserError: an option that the stream does not have.
    """
    known = build(SyntheticOptions, options, "data.options")
    return SyntheticStream(batch_size, seed, rank, world, **asdict(known))
