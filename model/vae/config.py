"""Sizes of the VAE. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VaeConfig:
    """The defaults are the published sizes."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    residual_blocks: int = 2
    latent_channels: int = 4
    temporal_decoder: bool = False
    """SVD's decoder, which also convolves over the frames of a chunk."""
    scale: float = 0.18215
    """Sampled latents are the encoder's times this; conditioning latents are not scaled."""

    @property
    def downscale(self) -> int:
        """Pixels per latent, along an edge."""
        return 2 ** (len(self.multipliers) - 1)
