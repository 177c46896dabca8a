"""Augmentations that keep a grid a grid: what is drawn is applied to every cell alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import einsum
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.data.samples import GridSample

LUMA = (0.299, 0.587, 0.114)  # BT.601


def mirror(sample: GridSample) -> GridSample:
    """The mirror world: images flipped left-right and azimuths negated.

    A point (x, y, z) seen from azimuth a at pixel u lies, mirrored to (−x, y, z), at pixel W − u seen from −a.
    Latents cannot be flipped (the VAE is not equivariant), so a sample with latents is returned as it is.
    """
    if sample.latents is not None or sample.frames is None:
        return sample
    cameras = sample.cameras
    flipped = Cameras(cameras.elevation, torch.remainder(-cameras.azimuth, 360.0), cameras.distance, cameras.fov_y)
    solid = None if sample.solid is None else sample.solid.mirrored()
    return replace(sample, frames=sample.frames.flip(-1), cameras=flipped, clip=None, solid=solid)


def reverse_time(sample: GridSample) -> GridSample:
    """The clip played backwards; moving cameras go backwards with it."""
    V, F = sample.shape
    return sample.select(torch.arange(V), torch.arange(F - 1, -1, -1))


def colour_matrix(rng: np.random.Generator, strength: float) -> tuple[Tensor, Tensor]:
    """A random colour change as matrix [3, 3] and offset [3] on RGB in [0, 1].

    Rotates the hue about the grey axis, scales saturation and contrast and shifts brightness; `strength` in [0, 1]
    goes from the identity to half a turn of hue, ± 50 % of saturation and contrast, ± 0.15 of brightness.
    """
    angle = float(rng.uniform(-np.pi, np.pi)) * strength
    saturation, contrast = (1 + strength * rng.uniform(-0.5, 0.5, size=2)).tolist()
    brightness = strength * float(rng.uniform(-0.15, 0.15))
    cosine, sine = np.cos(angle), np.sin(angle)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3.0)
    hue = cosine * np.eye(3) + (1 - cosine) * np.full((3, 3), 1 / 3) + sine * cross
    grey = np.tile(np.array(LUMA), (3, 1))
    saturate = saturation * np.eye(3) + (1 - saturation) * grey
    matrix = contrast * saturate @ hue
    offset = np.full(3, 0.5 * (1 - contrast) + brightness)
    return torch.from_numpy(matrix).float(), torch.from_numpy(offset).float()


def recolour(sample: GridSample, matrix: Tensor, offset: Tensor) -> GridSample:
    """Apply one colour change to every cell; alpha stays. Latent samples are returned as they are."""
    if sample.latents is not None or sample.frames is None:
        return sample
    rgb = sample.frames[:, :, :3].float() / 255
    changed = einsum(matrix, rgb, "i j, v f j h w -> v f i h w") + offset[:, None, None]
    rgb = (changed.clamp(0, 1) * 255).round().to(torch.uint8)
    return replace(sample, frames=torch.cat([rgb, sample.frames[:, :, 3:]], dim=2), clip=None)


def draw_background(rng: np.random.Generator, random_share: float) -> Tensor:
    """RGB [3] in [0, 1]: a random colour with probability `random_share`, otherwise white (as SV4D renders)."""
    colour = torch.from_numpy(rng.uniform(0, 1, size=3)).float()
    return colour if rng.random() < random_share else torch.ones(3)


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of each augmentation; `colour_strength` in [0, 1] (see `colour_matrix`)."""

    mirror: float = 0.5
    reverse: float = 0.5
    colour: float = 0.0
    colour_strength: float = 0.5

    def __call__(self, rng: np.random.Generator, sample: GridSample) -> GridSample:
        """Draws the same amount of random numbers whatever is chosen, so that one option never shifts another."""
        chances = rng.random(3)
        matrix, offset = colour_matrix(rng, self.colour_strength)
        if chances[0] < self.mirror:
            sample = mirror(sample)
        if chances[1] < self.reverse:
            sample = reverse_time(sample)
        if chances[2] < self.colour:
            sample = recolour(sample, matrix, offset)
        return sample
