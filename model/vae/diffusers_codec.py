"""diffusers' `AutoencoderKLTemporalDecoder` and `AutoencoderTiny` behind `LatentCodec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.errors import UserError, require
from viewtime.model.vae.codec import check_size

PUBLISHED_SCALE = 0.18215


class DiffusersCodec(nn.Module):
    """A loaded diffusers autoencoder as a `LatentCodec`.

    Args:
        autoencoder: `AutoencoderKLTemporalDecoder` or `AutoencoderTiny`.
        chunk: frames at a time, as in `FrameCodec`.

    Raises:
        UserError: another kind of autoencoder.
    """

    def __init__(self, autoencoder: nn.Module, chunk: int = 14):
        super().__init__()
        name = type(autoencoder).__name__
        if name not in ("AutoencoderKLTemporalDecoder", "AutoencoderTiny"):
            raise UserError(f"{name} does not fit: use AutoencoderKLTemporalDecoder or AutoencoderTiny")
        self.autoencoder: Any = autoencoder
        self.chunk, self.tiny, self.scale = chunk, name == "AutoencoderTiny", PUBLISHED_SCALE
        config = self.autoencoder.config
        self.downscale = 2 ** (len(config.decoder_block_out_channels if self.tiny else config.block_out_channels) - 1)

    def encode(self, frames: Tensor) -> Tensor:
        """As `LatentCodec.encode`."""
        check_size(frames, self.downscale)
        rows = rearrange(frames, "b v f c h w -> (b v f) c h w")
        latents = torch.cat([self._encode(part) for part in rows.split(self.chunk)])
        return rearrange(latents, "(b v f) c h w -> b v f c h w", b=frames.shape[0], v=frames.shape[1])

    def decode(self, latents: Tensor) -> Tensor:
        """As `LatentCodec.decode`."""
        clips = rearrange(latents, "b v f c h w -> (b v) f c h w")
        decoded = torch.stack([torch.cat([self._decode(part) for part in clip.split(self.chunk)]) for clip in clips])
        return rearrange(decoded, "(b v) f c h w -> b v f c h w", b=latents.shape[0])

    def _encode(self, rows: Tensor) -> Tensor:
        if self.tiny:  # it was distilled on scaled latents
            return self.autoencoder.encode(rows).latents / self.scale
        return self.autoencoder.encode(rows).latent_dist.mode()

    def _decode(self, clip: Tensor) -> Tensor:
        if self.tiny:
            return self.autoencoder.decode(clip * self.scale).sample
        return self.autoencoder.decode(clip, num_frames=len(clip)).sample


def load_diffusers_codec(
    folder: str | Path, kind: Literal["temporal", "tiny"], dtype: torch.dtype = torch.float32, chunk: int = 14
) -> DiffusersCodec:
    """From a folder that `save_pretrained` wrote (config.json and safetensors), never from a pickle.

    Raises:
        UserError: no such folder, or diffusers is not installed.
    """
    if not (Path(folder) / "config.json").is_file():
        raise UserError(f"{folder} is not a folder of a diffusers autoencoder: it has no config.json")
    diffusers = require("diffusers", "train")
    family = diffusers.AutoencoderTiny if kind == "tiny" else diffusers.AutoencoderKLTemporalDecoder
    return DiffusersCodec(family.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True), chunk).eval()
