"""Sizes of the published guidance networks, as arguments of diffusers' classes."""

from __future__ import annotations

from typing import Any

from viewtime.model.published.video_config import ImageEncoderConfig

_LEVELS: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
STABLE_DIFFUSION_2: dict[str, Any] = {
    **_LEVELS,
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
"""Stable Diffusion 2.x; MVDream is this with a camera embedding."""

ZERO123: dict[str, Any] = {
    **_LEVELS,
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 4,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
VIDEO: dict[str, Any] = {}
"""ModelScope and Zeroscope have the defaults of `UNet3DConditionModel`."""

DEEPFLOYD_XL: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (704, 1408, 2112, 2816),
    "layers_per_block": 3,
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "cross_attention_dim": 2816,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": 4096,
    "resnet_time_scale_shift": "scale_shift",
}
CLIP_IMAGE = ImageEncoderConfig(width=1024, layers=24, out_dim=768, activation="quick_gelu")
"""zero123's image tower: OpenAI's ViT-L/14."""

OPEN_CLIP_TEXT: dict[str, Any] = {"width": 1024, "heads": 16, "layers": 23}
"""The text tower of Stable Diffusion 2: ViT-H-14's without its last block."""
