"""Grids of frames to grids of latents and back, a few frames at a time."""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.vae.config import VaeConfig
from viewtime.model.vae.decoder import Decoder
from viewtime.model.vae.encoder import FrameEncoder


class LatentCodec(Protocol):
    """What samplers and data encoding see. Latents here are unscaled: the network's latents divided by `scale`."""

    scale: float
    downscale: int

    def encode(self, frames: Tensor) -> Tensor:
        """[B, V, F, 3, H, W] in [-1, 1] -> [B, V, F, 4, h, w]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[B, V, F, 4, h, w] -> [B, V, F, 3, H, W], about [-1, 1], not clamped."""
        ...


class FrameCodec:
    """The published VAE.

    Args:
        config: its sizes and kind of decoder.
        frame_encoder, decoder: the two halves; they lie apart in the published files.
        chunk: frames encoded, or decoded, at a time. It bounds memory and never changes what the encoder and the
            image decoder give; the temporal decoder sees no further than its chunk, so there it changes borders
            (the published scripts use 14).
    """

    def __init__(self, config: VaeConfig, frame_encoder: FrameEncoder, decoder: Decoder, chunk: int = 14):
        self.config, self.chunk = config, chunk
        self.scale, self.downscale = config.scale, config.downscale
        self.frame_encoder, self.decoder = frame_encoder, decoder

    def encode(self, frames: Tensor) -> Tensor:
        """[B, V, F, 3, H, W] in [-1, 1] -> mode of the latents, unscaled [B, V, F, 4, h, w].

        Raises:
            UserError: height or width is not a multiple of the VAE's downscale.
        """
        check_size(frames, self.downscale)
        rows = rearrange(frames, "b v f c h w -> (b v f) c h w")
        latents = torch.cat([self.frame_encoder(part) for part in rows.split(self.chunk)])
        return rearrange(latents, "(b v f) c h w -> b v f c h w", b=frames.shape[0], v=frames.shape[1])

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents [B, V, F, 4, h, w] -> [B, V, F, 3, H, W]."""
        B, V, _ = latents.shape[:3]
        if self.config.temporal_decoder:
            clips = rearrange(latents, "b v f c h w -> (b v) f c h w")
            decoded = [torch.cat([self.decoder(part, len(part)) for part in clip.split(self.chunk)]) for clip in clips]
            return rearrange(torch.stack(decoded), "(b v) f c h w -> b v f c h w", b=B, v=V)
        rows = rearrange(latents, "b v f c h w -> (b v f) c h w")
        frames = torch.cat([self.decoder(part) for part in rows.split(self.chunk)])
        return rearrange(frames, "(b v f) c h w -> b v f c h w", b=B, v=V)


def check_size(frames: Tensor, downscale: int) -> None:
    """Raise UserError unless height and width of [..., H, W] are multiples of `downscale`."""
    height, width = frames.shape[-2:]
    if height % downscale or width % downscale:
        raise UserError(f"frames are {height}×{width} pixels; height and width must be multiples of {downscale}")
