"""Building blocks of encoder and decoders, named as in the published files."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import attend


def group_norm(channels: int) -> nn.GroupNorm:
    """The VAE's normalisation: 32 groups, eps 1e-6 (the UNet's residual blocks use 1e-5)."""
    return nn.GroupNorm(32, channels, eps=1e-6)


class VaeResidual(nn.Module):
    """Norm, swish, conv, norm, swish, conv, + input."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, H, W]; frames (per clip) matters to the temporal twin only."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class VaeAttention(nn.Module):
    """Single-head attention over all positions of an image."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        h = self.norm(x)
        query, key, value = (rearrange(conv(h), "n c h w -> n 1 (h w) c") for conv in (self.q, self.k, self.v))
        mixed = rearrange(attend(query, key, value), "n 1 (h w) c -> n c h w", h=x.shape[-2])
        return x + self.proj_out(mixed)


class VaeMiddle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, residual: type[VaeResidual] = VaeResidual):
        super().__init__()
        self.block_1 = residual(channels, channels)
        self.attn_1 = VaeAttention(channels)
        self.block_2 = residual(channels, channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[N, C, H, W] -> the same."""
        return self.block_2(self.attn_1(self.block_1(x, frames)), frames)


class VaeLevel(nn.Module):
    """Residual blocks of one resolution, then `resample` (attribute `downsample` or `upsample`) if there is one."""

    downsample: nn.Module | None
    upsample: nn.Module | None

    def __init__(self, channels: list[int], residual: type[VaeResidual] = VaeResidual):
        super().__init__()
        self.block = nn.ModuleList(residual(a, b) for a, b in pairwise(channels))
        self.downsample = None
        self.upsample = None

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, H', W']."""
        for block in self.block:
            x = block(x, frames)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class VaeDownsample(nn.Module):
    """Halve the size; the zero padding is at the right and the bottom only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class VaeUpsample(nn.Module):
    """Double the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
