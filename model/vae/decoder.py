"""Latents to images: frame by frame, or with SVD's convolutions over the frames of a clip."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.sv4d.convolution import SequenceConvolution
from viewtime.model.vae.config import VaeConfig
from viewtime.model.vae.layers import VaeLevel, VaeMiddle, VaeResidual, VaeUpsample, group_norm


class FrameConvolutions(nn.Module):
    """Residual block along the frames of a clip; group statistics over the clip, eps 1e-5."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(32, channels)
        self.conv_in = SequenceConvolution(channels, channels)
        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = SequenceConvolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, F, S] -> the same."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        return x + self.conv_out(F.silu(self.norm_out(h)))


class TemporalResidual(VaeResidual):
    """Spatial block, then a temporal one, blended: sigmoid(mix) temporal + (1 - sigmoid(mix)) spatial.

    The share belongs to the temporal branch here, to the spatial one in the UNet.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.temporal = FrameConvolutions(out_channels)
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[(B F), C_in, H, W] -> [(B F), C_out, H, W]."""
        spatial = super().forward(x, frames)
        clips = rearrange(spatial, "(b f) c h w -> b c f (h w)", f=frames)
        temporal = rearrange(self.temporal(clips), "b c f (h w) -> (b f) c h w", h=x.shape[-2])
        return spatial + self.mix_factor.sigmoid().to(x.dtype) * (temporal - spatial)


class FrameOutput(nn.Conv2d):
    """The last convolution of the temporal decoder: over space, then over frames."""

    def __init__(self, channels: int):
        super().__init__(channels, 3, 3, padding=1)
        self.time_mix_conv = SequenceConvolution(3, 3)

    def over_frames(self, x: Tensor, frames: int) -> Tensor:
        """[(B F), 3, H, W] -> the same."""
        clips = rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)
        return rearrange(self.time_mix_conv(clips), "b c f (h w) -> (b f) c h w", h=x.shape[-2])


class Decoder(nn.Module):
    """Latent to image; `config.temporal_decoder` chooses SVD's form."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.config = config
        residual = TemporalResidual if config.temporal_decoder else VaeResidual
        channels = config.multipliers[-1] * config.channels
        self.conv_in = nn.Conv2d(config.latent_channels, channels, 3, padding=1)
        self.mid = VaeMiddle(channels, residual)
        levels = []
        for index, multiplier in reversed(list(enumerate(config.multipliers))):
            out = multiplier * config.channels
            level = VaeLevel([channels] + [out] * (config.residual_blocks + 1), residual)
            if index:
                level.upsample = VaeUpsample(out)
            levels.insert(0, level)
            channels = out
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(channels)
        self.conv_out = FrameOutput(channels) if config.temporal_decoder else nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, latents: Tensor, frames: int = 1) -> Tensor:
        """Unscaled latents [(B F), latent_channels, h, w] -> [(B F), 3, H, W], about [-1, 1]; F = frames per clip."""
        h = self.mid(self.conv_in(latents), frames)
        for level in reversed(self.up):
            h = level(h, frames)
        h = self.conv_out(F.silu(self.norm_out(h)))
        return self.conv_out.over_frames(h, frames) if isinstance(self.conv_out, FrameOutput) else h
