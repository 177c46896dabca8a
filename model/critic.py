"""Critic: tells real frames of a grid from made ones, given the input view and the cameras.

A patch discriminator (Isola et al. 2017, section 3.2.2) with convolutions in space, between neighbouring frames of a
view and between neighbouring views of an instant: it sees single frames, their motion, and whether views agree. It has
no normalisation (Huang et al. 2024, "The GAN is dead; long live the GAN!", section 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.mini.network import AZIMUTH_HARMONICS, camera_features

SLOPE = 0.2  # of the leaky rectifier
PATCH = 8  # pixels between neighbouring logits
CELLS = "(b v f) c h w"
ROWS = {"frames": "(b v h w) c f", "views": "(b f h w) c v"}


class NeighbourMix(nn.Module):
    """Convolution over three neighbours along "frames" or "views" beside the identity; starts as the identity."""

    def __init__(self, width: int, axis: str) -> None:
        super().__init__()
        self.rows = ROWS[axis]
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, views: int, frames: int) -> Tensor:
        """[B · views · frames, C, h, w] -> same."""
        sizes = {"v": views, "f": frames, "h": x.shape[-2], "w": x.shape[-1]}
        rows = self.mix(rearrange(F.leaky_relu(x, SLOPE), f"{CELLS} -> {self.rows}", **sizes))
        return x + rearrange(rows, f"{self.rows} -> {CELLS}", **sizes)


class Critic(nn.Module):
    """Logits per patch and frame, above 0 for real.

    Args:
        channels: of a cell.
        width: channels at half resolution; twice and four times as many at a quarter and an eighth.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * (2 * channels + 1), width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(n * width, 2 * n * width, 4, stride=2, padding=1) for n in (1, 2))
        self.cameras = nn.ModuleList(nn.Linear(2 * AZIMUTH_HARMONICS + 2, 2 * n * width) for n in (1, 2))
        self.frames = nn.ModuleList(NeighbourMix(2 * n * width, "frames") for n in (1, 2))
        self.views = nn.ModuleList(NeighbourMix(2 * n * width, "views") for n in (1, 2))
        self.last = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.leave = nn.Conv2d(4 * width, 1, 1)

    def forward(self, grid: Tensor, given: Tensor, seen: Tensor, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """Judge a grid without its input view.

        Args:
            grid: [B, V, F, C, S, S] in [-1, 1], views in the order of their azimuth.
            given: the input view at the same instants, like `grid`.
            seen: whether the input view is known there, bool [B, V, F].
            elevation, azimuth: of the cameras, relative to the input view; degrees [B, V, F].

        Returns:
            [B, V, F, S/8, S/8].
        """
        B, V, F_ = grid.shape[:3]
        if grid.shape[-1] % PATCH or grid.shape[-2] % PATCH:
            raise UserError(f"critic: cells of {tuple(grid.shape[-2:])} pixels; sides must be multiples of {PATCH}")
        flag = seen[..., None, None, None].to(grid).expand(-1, -1, -1, 1, *grid.shape[-2:])
        x = torch.cat([grid, given * flag, flag], dim=3).flatten(0, 2)
        x = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        features = camera_features(elevation, azimuth).flatten(0, 2)
        for down, camera, frames, views in zip(self.down, self.cameras, self.frames, self.views, strict=True):
            x = down(F.leaky_relu(x, SLOPE)) + camera(features)[:, :, None, None]
            x = views(frames(x, V, F_), V, F_)
        x = self.last(F.leaky_relu(x, SLOPE))
        return self.leave(F.leaky_relu(x, SLOPE)).reshape(B, V, F_, *x.shape[-2:])
