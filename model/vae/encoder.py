"""Image to the mode of its latent distribution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.model.vae.config import VaeConfig
from viewtime.model.vae.layers import VaeDownsample, VaeLevel, VaeMiddle, group_norm


class Encoder(nn.Module):
    """Convolutional encoder; the last layer gives mean and log variance."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.down, channels = nn.ModuleList(), config.channels
        for index, multiplier in enumerate(config.multipliers):
            out = multiplier * config.channels
            level = VaeLevel([channels] + [out] * config.residual_blocks)
            if index + 1 < len(config.multipliers):
                level.downsample = VaeDownsample(out)
            self.down.append(level)
            channels = out
        self.mid = VaeMiddle(channels)
        self.norm_out = group_norm(channels)
        self.conv_out = nn.Conv2d(channels, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, 2 * latent_channels, H / downscale, W / downscale]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h, 1)
        return self.conv_out(F.silu(self.norm_out(self.mid(h, 1))))


class FrameEncoder(nn.Module):
    """Encoder and the pointwise layer after it."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)

    def moments(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> mean and log variance [N, 2 * latent_channels, h, w]."""
        return self.quant_conv(self.encoder(frames))

    def forward(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the mode, unscaled [N, latent_channels, h, w]."""
        return self.moments(frames)[:, : self.config.latent_channels]
