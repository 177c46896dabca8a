"""Small networks filled by the golden rule, and stand-ins that hand stored values to the code under test."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from distill_golden import draw, fill

from viewtime.cameras import Cameras
from viewtime.recon.distill.guidance.base import Rendered


def unet2d(prefix, channels_in=4, channels_out=4):
    network = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels_in,
        out_channels=channels_out,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    return fill(network, prefix)


def unet3d(prefix="zs"):
    network = UNet3DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=8,
        norm_num_groups=32,
    )
    return fill(network, prefix)


def vae():
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    return fill(autoencoder, "vae")


def lora_weights(module_path, down_shape, up_shape):
    down = draw(f"lora:{module_path}.lora.down.weight", *down_shape) / 4
    return down, 0.1 * draw(f"lora:{module_path}.lora.up.weight", *up_shape)


@dataclass
class StoredDraws:
    """`Draws` from a dictionary; asks for nothing that is not there."""

    values: dict
    dropped: bool = False

    def normal(self, name, like):
        value = self.values[name]
        assert value.shape == like.shape, (name, value.shape, like.shape)
        return value.to(like)

    def timesteps(self, name, count, low, high):
        value = self.values[name]
        assert value.numel() == count
        assert low <= value.min()
        assert value.max() <= high
        return value

    def uniform(self, name, count):
        assert name == "drop_camera"
        return torch.tensor([0.0 if self.dropped else 0.5], dtype=torch.float64)


@dataclass
class GivenLatents:
    """A codec that hands out latents instead of encoding."""

    latents: torch.Tensor
    channels: int = 4
    downscale: int = 1

    def encode(self, pictures, draws):
        return self.latents


@dataclass
class GivenText:
    """A prompt of stored embeddings, one per entry: [N, L, D] and [1, L, D]."""

    text: torch.Tensor
    uncond: torch.Tensor

    def conditional(self, elevation, azimuth):
        return self.text.expand(len(elevation), -1, -1)

    def pair(self, elevation, azimuth):
        return self.conditional(elevation, azimuth), self.uncond.expand(len(elevation), -1, -1)

    @property
    def unconditional(self):
        return self.uncond[0]


def rendered(color, cameras=None):
    """A render of colours [B, V, F, 3, H, W] alone."""
    B, V, F = color.shape[:3]
    zeros = torch.zeros(V, F)
    cameras = cameras or (Cameras(zeros, zeros, zeros + 2.0),) * B
    return Rendered(color, torch.ones_like(color[:, :, :, :1]), color, cameras)


def blank(B, V, F, size=8):
    """A render where its content does not matter."""
    return rendered(torch.zeros(B, V, F, 3, size, size, dtype=torch.float64))
