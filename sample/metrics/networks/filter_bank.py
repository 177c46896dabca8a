"""The offline feature network: a fixed bank of space-time filters, built from formulas (nothing is trained or shipped).

Oriented spatial Gabor filters at three scales, followed over time by four band-pass filters: the motion energy
model (Adelson & Bergen 1985). A pattern that stands still answers in the band at 0, one that moves in the bands
at ± a quarter cycle per frame, one that jumps or flickers in the band at half a cycle per frame.

Limits: it knows no objects and no naturalness; it sees sharpness, size, colour, layout, speed and smoothness. Its
distances (marked with a star) rank results of one test set; they are not comparable with those of I3D.
"""

from __future__ import annotations

import hashlib
import math

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional

from viewtime.errors import UserError

SIZE = 64  # pixels a side that every frame is resampled to
LEVELS = 3  # spatial periods of 4, 8 and 16 pixels of the 64
ORIENTATIONS = 4
KERNEL = 9  # pixels of the level's own grid
PERIOD = 4.0  # pixels of the level's own grid
TEMPORAL_TAPS = 4  # frames; also the shortest clip
COARSE = 8  # cells a side of the colour layout
FLOOR = 1e-3  # energy (in units of the pixel range) that counts as none
WHOLE_FLOOR = 3e-4  # the same for the mean colour of the whole frame, which varies less
VERSION = "viewtime-filter-bank-1"


def spatial_kernels() -> Tensor:
    """Complex Gabor filters without response to a constant, [2 · orientations, 1, k, k]: real, imaginary, …"""
    radius = KERNEL // 2
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, dtype=torch.float64)] * 2, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * (KERNEL / 4.5) ** 2))
    kernels = []
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        phase = 2 * math.pi / PERIOD * (x * math.cos(angle) + y * math.sin(angle))
        real = window * phase.cos()
        real = real - window * real.sum() / window.sum()
        imaginary = window * phase.sin()
        scale = (real**2 + imaginary**2).sum().sqrt()
        kernels += [real / scale, imaginary / scale]
    return torch.stack(kernels)[:, None].float()


def temporal_kernels() -> Tensor:
    """Binomial window modulated to 0, + a quarter, - a quarter and half a cycle per frame: complex [4 bands, taps]."""
    window = torch.tensor([math.comb(TEMPORAL_TAPS - 1, k) for k in range(TEMPORAL_TAPS)], dtype=torch.float64)
    window = window / window.sum()
    steps = torch.arange(TEMPORAL_TAPS, dtype=torch.float64)
    bands = [torch.polar(window, -2 * math.pi * cycles * steps) for cycles in (0.0, 0.25, -0.25, 0.5)]
    return torch.stack(bands).to(torch.complex64)


class FilterBank:
    """Clips to feature vectors; the interface of `viewtime.sample.metrics.networks.video.VideoNetwork`."""

    name = "filter bank"
    star = True
    min_frames = TEMPORAL_TAPS
    preprocessing = f"RGB resampled to {SIZE}×{SIZE}, bilinear with antialiasing"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.spatial = spatial_kernels().to(self.device)
        self.temporal = temporal_kernels().to(self.device)
        # Rounded, so that the last bit of a cosine on another machine does not change the identity.
        digest = hashlib.sha256(VERSION.encode())
        for tensor in (self.spatial, torch.view_as_real(self.temporal)):
            digest.update((tensor.cpu().double() * 1e4).round().to(torch.int32).numpy().tobytes())
        self.checksum = f"sha256 {digest.hexdigest()[:16]}"

    def prepare(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] in [0, 1] -> [M, 3, 64, 64], the size the filters are made for."""
        images = images.to(self.device).float()
        return functional.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)

    def __call__(self, clips: Tensor) -> Tensor:
        """Prepared clips [N, T, 3, 64, 64] -> float32 [N, 108].

        Raises:
            UserError: fewer than 4 frames.
        """
        N, T = clips.shape[:2]
        if self.min_frames > T:
            raise UserError(f"clips of {T} frames; the {self.name} needs at least {self.min_frames}")
        levels, colour = self.maps(rearrange(clips.to(self.device), "n t c h w -> (n t) c h w"))
        parts = []
        for level in levels:
            energy = _magnitude(self._bands(rearrange(level, "(n t) o h w -> n t o h w", n=N)))
            # Appearance (band 0) by orientation; motion whatever its orientation and direction, then flicker.
            moving = reduce(energy[:, :, 1:3], "n t b o h w -> n t 1", "mean")
            jumping = reduce(energy[:, :, 3], "n t o h w -> n t 1", "mean")
            still = reduce(energy[:, :, 0], "n t o h w -> n t o", "mean")
            parts += _over_time(torch.cat([still, moving, jumping], dim=2), FLOOR)
        colour = rearrange(colour, "(n t) c h w -> n t c h w", n=N)
        layout = reduce(colour, "n t c (h a) (w b) -> n c h w", "mean", a=2, b=2)
        parts.append(rearrange(layout, "n c h w -> n (c h w)"))
        whole = reduce(colour, "n t c h w -> n t c 1 1", "mean")
        for signal, floor in ((colour, FLOOR), (whole, WHOLE_FLOOR)):
            # Of a real signal the bands at ± a quarter are equal, and the band at 0 is the layout above.
            changing = _magnitude(self._bands(signal.to(torch.complex64))[:, :, [1, 3]])
            parts += _over_time(reduce(changing, "n t b c h w -> n t (b c)", "mean"), floor)
        return torch.cat(parts, dim=1).cpu()

    def maps(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """[M, 3, 64, 64] -> complex responses per level [M, orientations, h, w], and colour [M, 3, 8, 8]."""
        red, green, blue = images.unbind(dim=1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = functional.adaptive_avg_pool2d(torch.stack([luma, red - green, blue - luma], dim=1), COARSE)
        levels, level = [], luma[:, None]
        for _ in range(LEVELS):
            padded = functional.pad(level, [KERNEL // 2] * 4, mode="replicate")
            response = rearrange(functional.conv2d(padded, self.spatial, stride=2), "m (o c) h w -> m o h w c", c=2)
            levels.append(torch.view_as_complex(response.contiguous()))
            level = functional.avg_pool2d(level, 2)
        return levels, colour

    def _bands(self, signal: Tensor) -> Tensor:
        """Complex [N, T, C, h, w] -> [N, T - taps + 1, bands, C, h, w]."""
        steps = signal.shape[1] - TEMPORAL_TAPS + 1
        shifted = torch.stack([signal[:, k : k + steps] for k in range(TEMPORAL_TAPS)], dim=-1)
        return torch.einsum("ntchwk,bk->ntbchw", shifted, self.temporal)


def _magnitude(response: Tensor) -> Tensor:
    """|response|; `Tensor.abs` of complex values guards against overflow and takes three times as long."""
    return (response.real.square() + response.imag.square()).sqrt()


def _over_time(energy: Tensor, floor: float) -> list[Tensor]:
    """Energies [N, T, D] -> logarithms of their mean and of their fourth-power mean over time, [N, D] each.

    The second is ruled by the moments of greatest change: a fault at the few turns of a long scan still shows.
    """
    peak = (energy**4).mean(dim=1) ** 0.25
    return [(energy.mean(dim=1) + floor).log(), (peak + floor).log()]
