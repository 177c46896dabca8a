"""Residual blocks: convolution over space, then over the flattened grid, blended; down- and upsampling."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.full_precision import FullPrecisionLinear
from viewtime.model.sv4d.blend import Blend
from viewtime.model.sv4d.convolution import ImageConvolution, SequenceConvolution
from viewtime.model.sv4d.grid_attention import Context


class SpaceConvolutions(nn.Module):
    """GroupNorm, SiLU, conv, + embedding, GroupNorm, SiLU, conv, + input; per image."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(32, in_channels)
        self.conv_in = ImageConvolution(in_channels, out_channels)
        self.embed = FullPrecisionLinear(embedding_dim, out_channels)
        self.norm_out = nn.GroupNorm(32, out_channels)
        self.conv_out = ImageConvolution(out_channels, out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [N, C_in, H, W], embedding [N, D] -> [N, C_out, H, W]."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = h + self.embed(F.silu(embedding)).to(h.dtype)[:, :, None, None]
        return self.skip(x) + self.conv_out(F.silu(self.norm_out(h)))


class GridConvolutions(nn.Module):
    """The same residual block along the sequence of all cells of a sample, view fastest.

    Group statistics are taken over all cells of the sample together, as in the published networks.
    """

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(32, channels)
        self.conv_in = SequenceConvolution(channels, channels)
        self.embed = FullPrecisionLinear(embedding_dim, channels)
        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = SequenceConvolution(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor, batch: int) -> Tensor:
        """x [(B L), C, H, W], embedding [(B L), D] -> [(B L), C, H, W]."""
        sequence = rearrange(x, "(b l) c h w -> b c l (h w)", b=batch)
        h = self.conv_in(F.silu(self.norm_in(sequence)))
        h = h + rearrange(self.embed(F.silu(embedding)).to(h.dtype), "(b l) c -> b c l 1", b=batch)
        h = sequence + self.conv_out(F.silu(self.norm_out(h)))
        return rearrange(h, "b c l (h w) -> (b l) c h w", h=x.shape[-2])


class ResidualBlock(nn.Module):
    """Convolutions over space, then over the grid, blended."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.space = SpaceConvolutions(in_channels, out_channels, embedding_dim)
        self.grid = GridConvolutions(out_channels, embedding_dim)
        self.blend = Blend()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[(B F V), C_in, H, W] -> [(B F V), C_out, H, W]."""
        spatial = self.space(x, context.embedding)
        mixed = self.grid(spatial, context.embedding, context.batch)
        image_only = None
        if context.image_only is not None:
            image_only = rearrange(context.image_only, "b f v -> (b f v) 1 1 1")
        return self.blend(spatial, mixed, image_only)


class Downsample(nn.Module):
    """Halve height and width by a strided convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ImageConvolution(channels, channels, stride=2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ImageConvolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
