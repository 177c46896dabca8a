"""Conditioning of SVD, SV3D and SV4D from frames and cameras; zeroing for guidance; dropout for training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.conditioners.image_encoder import ImageEncoder
from viewtime.model.conditioners.vector import azimuth_angle, embed_vector, polar_angle
from viewtime.model.denoiser import Conditioning
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.vae.encoder import FrameEncoder

NOISE_AUGMENTATION = {"svd": 0.02, "sv3d": 1e-5, "sv4d": 1e-5}
"""Noise added to the input frames before they are encoded, as published; the model is told the value."""
ZEROED = ("concat", "image_tokens", "reference_views")
PUBLISHED_FPS = 6
PUBLISHED_MOTION_BUCKET = 127


class EncodedFrames(NamedTuple):
    """Frames as the network is given them."""

    latents: Tensor
    """Unscaled modes [B, F, 4, h, w]."""
    tokens: Tensor
    """Image embeddings [B, F, D]."""

    def in_order(self, places: list[int]) -> EncodedFrames:
        """The frames at these places."""
        return EncodedFrames(self.latents[:, places], self.tokens[:, places])


class Conditioner:
    """Makes the `cond` of `VideoUNet`.

    Args:
        chunk: frames encoded at a time.
        noise_augmentation: see `NOISE_AUGMENTATION`, the default.
    """

    def __init__(
        self,
        config: VideoModelConfig,
        image_encoder: ImageEncoder,
        frame_encoder: FrameEncoder,
        view_encoder: FrameEncoder | None = None,
        chunk: int = 8,
        noise_augmentation: float | None = None,
    ):
        self.config, self.chunk = config, chunk
        self.image_encoder, self.frame_encoder, self.view_encoder = image_encoder, frame_encoder, view_encoder
        self.noise_augmentation = (
            NOISE_AUGMENTATION[config.family] if noise_augmentation is None else noise_augmentation
        )

    def encode(self, frames: Tensor, seed: int = 0) -> EncodedFrames:
        """What conditions on an input video [B, F, 3, H, W] in [-1, 1], whichever way time runs."""
        return EncodedFrames(self._latents(self.frame_encoder, frames, seed), self._image_tokens(frames))

    def sv4d(
        self,
        frames: Tensor | EncodedFrames,
        elevation: Tensor,
        azimuth: Tensor,
        input_elevation: Tensor,
        input_azimuth: Tensor,
        reference_views: Tensor | None,
        seed: int = 0,
    ) -> Conditioning:
        """Condition on an input video and, once there are any, on reference views of its first frame.

        Args:
            frames: input video [B, F, 3, H, W] in [-1, 1], or what `encode` made of it.
            elevation, azimuth: of the views to make [B, V, F], degrees.
            input_elevation, input_azimuth: of the input view [B, F], degrees.
            reference_views: the views to make, at the window's first frame [B, V, 3, H, W]; None zeroes their
                latents, as the published script does for the first window of SV4D 2.0.

        Raises:
            UserError: the model has no encoder of reference views.
        """
        if self.view_encoder is None:
            raise UserError(f"{self.config.name} is not an SV4D model")
        angles = {
            "polar": polar_angle(self.config, elevation, input_elevation[:, None]),
            "azimuth": azimuth_angle(azimuth, input_azimuth[:, None]),
        }
        encoded = frames if isinstance(frames, EncodedFrames) else self.encode(frames, seed)
        concat = encoded.latents
        B, V = elevation.shape[:2]
        if reference_views is None:
            reference = concat.new_zeros(B, V, *concat.shape[2:])
        else:
            reference = self._latents(self.view_encoder, reference_views, seed + 1)
        return {
            "concat": concat[:, None],
            "image_tokens": encoded.tokens[:, None],
            "reference_views": reference,
            "vector": embed_vector(self.config, {**angles, "noise_augmentation": self._level(concat)}),
        }

    def sv3d(self, image: Tensor, elevation: Tensor, azimuth: Tensor, seed: int = 0) -> Conditioning:
        """Condition on one image [B, 3, H, W]; cameras [B, V] in degrees, azimuth relative to the image."""
        angles = {
            "polar": polar_angle(self.config, elevation, elevation[:, :1]),
            "azimuth": azimuth_angle(azimuth, torch.zeros_like(azimuth[:, :1])),
            "noise_augmentation": self._level(image).expand_as(elevation),
        }
        return self._one_image(image, seed) | {"vector": embed_vector(self.config, angles)[:, :, None]}

    def svd(
        self, image: Tensor, fps: int = PUBLISHED_FPS, motion_bucket: int = PUBLISHED_MOTION_BUCKET, seed: int = 0
    ) -> Conditioning:
        """Condition on the first frame [B, 3, H, W]; fps and motion bucket are passed on as they are."""
        numbers = torch.tensor([float(fps), float(motion_bucket)], device=image.device)
        values = {"fps": numbers[0], "motion_bucket": numbers[1], "noise_augmentation": self._level(image)}
        vector = embed_vector(self.config, values)
        return self._one_image(image, seed) | {"vector": vector.expand(len(image), 1, 1, -1)}

    def _one_image(self, image: Tensor, seed: int) -> Conditioning:
        latent = self._latents(self.frame_encoder, image[:, None], seed)
        return {"concat": latent[:, None], "image_tokens": self._image_tokens(image[:, None])[:, None]}

    def _level(self, like: Tensor) -> Tensor:
        return torch.tensor(self.noise_augmentation, device=like.device)

    def _latents(self, encoder: FrameEncoder, frames: Tensor, seed: int) -> Tensor:
        """[B, K, 3, H, W] -> unscaled modes [B, K, 4, h, w]; the augmentation noise of a frame depends on its place."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(frames.shape[1:], generator=generator).to(frames)
        rows = rearrange(frames + self.noise_augmentation * noise, "b k c h w -> (b k) c h w")
        dtype = encoder.quant_conv.weight.dtype
        latents = torch.cat([encoder(part.to(dtype)) for part in rows.split(self.chunk)])
        return rearrange(latents, "(b k) c h w -> b k c h w", b=frames.shape[0])

    def _image_tokens(self, frames: Tensor) -> Tensor:
        """[B, K, 3, H, W] -> [B, K, D], of the frames without noise."""
        rows = rearrange(frames, "b k c h w -> (b k) c h w")
        tokens = torch.cat([self.image_encoder(part) for part in rows.split(self.chunk)])
        return rearrange(tokens, "(b k) d -> b k d", b=frames.shape[0])


def unconditional(config: VideoModelConfig, cond: Conditioning) -> Conditioning:
    """The negative branch of guidance: latents and image embeddings are zero after embedding, cameras stay.

    SV4D's zeroed input frames also take the embedding of their noise augmentation with them (the first vector part).
    """
    zeroed = {name: torch.zeros_like(cond[name]) for name in ZEROED if name in cond}
    vector = cond["vector"]
    if config.family == "sv4d":
        vector = vector.clone()
        vector[..., : config.vector[0].dim] = 0
    return {**cond, **zeroed, "vector": vector}


def drop_conditions(
    config: VideoModelConfig, cond: Conditioning, probability: float, generators: list[torch.Generator]
) -> Conditioning:
    """Training dropout: each sample is made unconditional with the given probability, by its own generator."""
    negative = unconditional(config, cond)
    draws = torch.stack([torch.rand((), generator=generator) for generator in generators])
    dropped = draws < probability
    return {
        name: torch.where(dropped.to(value.device).view(-1, *[1] * (value.ndim - 1)), negative[name], value)
        for name, value in cond.items()
    }
