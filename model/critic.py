"""Critic: tells real rows of a grid from made ones, given the input view and the camera.

A patch discriminator (Isola et al. 2017, section 3.2.2) over one view and its frames, with convolutions in space and
between neighbouring frames, so that it sees single frames and their motion. It has no normalisation (Huang et al.
2024, "The GAN is dead; long live the GAN!", section 3).
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


class FrameMix(nn.Module):
    """Convolution over three neighbouring frames beside the identity; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[N · frames, C, h, w] -> same."""
        height, width = x.shape[-2:]
        rows = rearrange(F.leaky_relu(x, SLOPE), "(n f) c h w -> (n h w) c f", f=frames)
        return x + rearrange(self.mix(rows), "(n h w) c f -> (n f) c h w", h=height, w=width)


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
        self.mixes = nn.ModuleList(FrameMix(2 * n * width) for n in (1, 2))
        self.last = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.leave = nn.Conv2d(4 * width, 1, 1)

    def forward(self, rows: Tensor, given: Tensor, seen: Tensor, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """Judge rows of frames.

        Args:
            rows: [N, F, C, S, S] in [-1, 1].
            given: the input view at the same instants, [N, F, C, S, S].
            seen: whether the input view is known there, bool [N, F].
            elevation, azimuth: of the rows' cameras, relative to the input view; degrees [N, F].

        Returns:
            [N, F, S/8, S/8].
        """
        N, frames = rows.shape[:2]
        if rows.shape[-1] % PATCH or rows.shape[-2] % PATCH:
            raise UserError(f"critic: cells of {tuple(rows.shape[-2:])} pixels; sides must be multiples of {PATCH}")
        flag = seen[:, :, None, None, None].to(rows).expand(-1, -1, 1, *rows.shape[-2:])
        x = torch.cat([rows, given * flag, flag], dim=2).flatten(0, 1)
        x = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        features = camera_features(elevation, azimuth).flatten(0, 1)
        for down, camera, mix in zip(self.down, self.cameras, self.mixes, strict=True):
            x = down(F.leaky_relu(x, SLOPE)) + camera(features)[:, :, None, None]
            x = mix(x, frames)
        x = self.last(F.leaky_relu(x, SLOPE))
        return rearrange(self.leave(F.leaky_relu(x, SLOPE)), "(n f) 1 h w -> n f h w", n=N)
