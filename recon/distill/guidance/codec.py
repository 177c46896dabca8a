"""Between pixels and what a network denoises: diffusers' autoencoder a few frames at a time, or pixels themselves."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .base import Draws


class Codec(Protocol):
    """Pictures of the network's own size to its clean values and back."""

    channels: int
    downscale: int

    def encode(self, pictures: Tensor, draws: Draws) -> Tensor:
        """RGB in [0, 1], [B, V, F, 3, H, W], to scaled latents [B, V, F, C, h, w], with gradient."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[B, V, F, C, h, w] -> RGB in [0, 1], clamped, [B, V, F, 3, H, W]."""
        ...


class Pixels:
    """RGB in [-1, 1], for networks without an autoencoder (DeepFloyd IF)."""

    channels = 3
    downscale = 1

    def encode(self, pictures: Tensor, draws: Draws) -> Tensor:
        """See `Codec`."""
        del draws
        return 2 * pictures - 1

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`."""
        return (latents * 0.5 + 0.5).clamp(0, 1)


class Autoencoder:
    """diffusers' `AutoencoderKL`: the posterior is sampled, and the gradient goes through the encoder.

    Args:
        autoencoder: loaded and frozen.
        chunk: frames at a time, forward and backward; it bounds memory and changes nothing else.
        recompute: keep no activations of the encoder; each chunk is encoded again in the backward pass.
        frames_with_gradient: how many cells of a batch, drawn at random, carry a gradient; the others enter as
            constants (4D-fy's low-memory option, which converges slower). None: all.
    """

    def __init__(
        self, autoencoder: Any, *, chunk: int = 1, recompute: bool = True, frames_with_gradient: int | None = None
    ) -> None:
        self.autoencoder = autoencoder
        self.chunk, self.recompute, self.frames_with_gradient = chunk, recompute, frames_with_gradient
        config = autoencoder.config
        self.scale, self.channels = config.scaling_factor, config.latent_channels
        self.downscale = 2 ** (len(config.block_out_channels) - 1)

    def encode(self, pictures: Tensor, draws: Draws) -> Tensor:
        """See `Codec`."""
        B, V, F, _, H, W = pictures.shape
        small = (B, V, F, self.channels, H // self.downscale, W // self.downscale)
        noise = draws.normal("posterior", pictures.new_empty(small)).flatten(0, 2)
        flat = 2 * pictures.flatten(0, 2) - 1
        if self.frames_with_gradient is not None and self.frames_with_gradient < len(flat):
            order = draws.uniform("frames_with_gradient", len(flat)).argsort()
            latents = self._encode_partly(flat, noise, order[: self.frames_with_gradient].to(flat.device))
        else:
            latents = self._encode_all(flat, noise)
        return latents.unflatten(0, (B, V, F))

    def _encode_partly(self, flat: Tensor, noise: Tensor, chosen: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self._encode_all(flat, noise)
        return latents.index_copy(0, chosen, self._encode_all(flat[chosen], noise[chosen]))

    def _encode_all(self, flat: Tensor, noise: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] and the posterior's noise -> scaled latents [N, C, h, w]."""
        parts = []
        for part, part_noise in zip(flat.split(self.chunk), noise.split(self.chunk)):
            if self.recompute and part.requires_grad and torch.is_grad_enabled():
                parts.append(checkpoint(self._sample, part, part_noise, use_reentrant=False))
            else:
                parts.append(self._sample(part, part_noise))
        return torch.cat(parts)

    def _sample(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """mean + std · noise, scaled, in the pictures' dtype."""
        posterior = self.autoencoder.encode(pictures.to(self.autoencoder.dtype)).latent_dist
        mean, spread = posterior.mean.to(pictures.dtype), posterior.std.to(pictures.dtype)
        return (mean + spread * noise) * self.scale

    def mode(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the posterior's mean, unscaled, [N, C, h, w]; without gradient."""
        with torch.no_grad():
            parts = pictures.to(self.autoencoder.dtype).split(self.chunk)
            return torch.cat([self.autoencoder.encode(part).latent_dist.mean for part in parts]).to(pictures.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`."""
        B, V, F = latents.shape[:3]
        flat = latents.flatten(0, 2).to(self.autoencoder.dtype) / self.scale
        pictures = torch.cat([self.autoencoder.decode(part).sample for part in flat.split(self.chunk)])
        scaled = (pictures.to(latents.dtype) * 0.5 + 0.5).clamp(0, 1)
        return rearrange(scaled, "(b v f) c h w -> b v f c h w", b=B, v=V, f=F)
