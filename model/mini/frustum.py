"""The input view as a solid: a 2D network gives each of its pixels colours and densities along the ray.

One picture says little of depth, but everything about the outline: no density lies on a ray that misses the object,
and a pixel's colours start as its own. What is left to learn is how deep things are and what their far side looks
like. Channels serve as depth (a volume in the frustum of the input camera), so that the network itself is a cheap
picture-to-picture U-net.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import Backend, attend
from viewtime.model.full_precision import weight_dtype
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.hints import HINTS, draw_hints
from viewtime.model.mini.settle import settle, smooth
from viewtime.model.mini.solid import render_solid
from viewtime.model.mini.stem import GROUPS, ResidualBlock

HEAD_DIM = 32
MIDDLE_BLOCKS = 4
DENSITY_GAIN = 4.0
STARTING_THICKNESS = 0.25  # of the denser layer before training, in half heights of the picture
DARKEST = 0.02  # colours are kept this far from 0 and 1 before the logit


class SolidCameras(NamedTuple):
    """The camera of a picture and those that look at its solid, N pictures and V views.

    Attributes:
        axes_in: of the picture's camera [N, 3, 3] (`rays.camera_axes`).
        elevation: of the same, degrees [N].
        axes: of the others [N, V, 3, 3].
        slope: tan(fov / 2) of all [N].
    """

    axes_in: Tensor
    elevation: Tensor
    axes: Tensor
    slope: Tensor


class PictureAttention(nn.Module):
    """Self-attention over the pixels of the feature maps of an object, beside the identity; starts at zero."""

    def __init__(self, width: int, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.backend = backend
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, maps: int) -> Tensor:
        """[N · maps, C, h, w] -> same; pixels attend to those of the `maps` that follow each other."""
        q, k, v = rearrange(self.qkv(self.norm(x)), "(n m) (s a d) h w -> s n a (m h w) d", s=3, d=HEAD_DIM, m=maps)
        mixed = attend(q, k, v, self.backend)
        return x + self.out(rearrange(mixed, "n a (m h w) d -> (n m) (a d) h w", h=x.shape[-2], m=maps))


class PictureNet(nn.Module):
    """U-net with attention at 1/8 of the size, in turn within a picture and over all frames of an object.

    Args:
        hints: planes at half the size that are seen beside the picture; their weights start at zero.
        readouts: whether coarser features add to what comes out; their weights start at zero.
    """

    def __init__(self, channels: int, width: int, out: int, size: int, hints: int = 0, readouts: bool = False) -> None:
        super().__init__()
        deep, side = 4 * width, size // 8
        self.enter = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.hint = nn.Conv2d(hints, width, 3, padding=1, bias=False) if hints else None
        if self.hint is not None:
            nn.init.zeros_(self.hint.weight)
        self.half_in = ResidualBlock(width)
        self.down_half = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.quarter_in = nn.Sequential(ResidualBlock(2 * width), ResidualBlock(2 * width))
        self.down_quarter = nn.Conv2d(2 * width, deep, 2, stride=2)
        self.position = nn.Parameter(0.02 * torch.randn(deep, side, side))
        layers = [layer for _ in range(MIDDLE_BLOCKS) for layer in (ResidualBlock(deep), PictureAttention(deep))]
        self.middle = nn.ModuleList(layers)
        self.up_quarter = nn.Conv2d(deep, 8 * width, 1)
        self.quarter_out = nn.Sequential(ResidualBlock(2 * width), ResidualBlock(2 * width))
        self.up_half = nn.Conv2d(2 * width, 4 * width, 1)
        self.half_out = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.leave = nn.Conv2d(width, out, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]
        self.read_quarter = nn.Conv2d(2 * width, 4 * out, 1) if readouts else None
        self.read_deep = nn.Conv2d(deep, 16 * out, 1) if readouts else None
        for layer in (self.read_quarter, self.read_deep):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, frames: int, hints: Tensor | None = None) -> Tensor:
        """[N · frames, channels, S, S] -> [N · frames, out, S/2, S/2]; frames: 1 keeps them apart."""
        half = self.enter(F.pixel_unshuffle(x, 2))
        if self.hint is not None:
            assert hints is not None
            half = half + self.hint(hints)
        half = self.half_in(half)
        quarter = self.quarter_in(self.down_half(half))
        deep = self.down_quarter(quarter) + self.position
        for number in range(MIDDLE_BLOCKS):
            deep = self.middle[2 * number](deep)
            deep = self.middle[2 * number + 1](deep, frames if number % 2 else 1)
        quarter = self.quarter_out(F.pixel_shuffle(self.up_quarter(deep), 2) + quarter)
        drawn = self.leave(self.half_out(F.pixel_shuffle(self.up_half(quarter), 2) + half))
        if self.read_quarter is None or self.read_deep is None:
            return drawn
        return drawn + F.pixel_shuffle(self.read_quarter(quarter), 2) + F.pixel_shuffle(self.read_deep(deep), 4)


class Frustum(nn.Module):
    """Pictures of the object from one camera -> what every camera sees of it, by volume rendering.

    Each frame has a solid of its own. What one frame hides another may show: half of the network's attention goes over
    all frames.

    Args:
        config: its `frustum_…`. The pictures that the network sees have a side of S pixels, it draws S/2 cells along
            each edge, and makes pictures of R rays along a side with S/2 samples each; S/2 or more. With more the drawn
            cells are interpolated, and outline and colours of the input are taken at that size.
    """

    made: nn.Identity  # where a loss on the solid itself watches it pass

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        size = config.frustum_size or config.size
        self.side, self.rays, self.hints = size // 2, config.frustum_rays or size // 2, config.frustum_hints
        self.frame_attention = config.frame_attention
        self.smooth, self.settle, self.own_hue = config.frustum_smooth, config.frustum_settle, config.frustum_own_hue
        hints = HINTS if self.hints else 0
        self.network = PictureNet(4, config.frustum_width, 4 * self.side, size, hints, config.frustum_readouts)
        self.made = nn.Identity()

    def forward(self, picture: Tensor, cameras: SolidCameras, frames: int = 1) -> Tensor:
        """picture [N, 4, H, H] in [-1, 1], on white, of `cameras.axes_in`; H at least S and the rays.

        Args:
            frames: N is a multiple of it; so many pictures in a row are frames of one object. Without frame attention
                each is taken by itself.

        Returns:
            [N, V, 4, R, R] in [-1, 1], on white.
        """
        solid = self.fill(picture, cameras, frames)
        return render_solid(solid, cameras.axes_in, cameras.axes, cameras.slope, self.rays)

    def fill(self, picture: Tensor, cameras: SolidCameras, frames: int = 1) -> Tensor:
        """Colour in [0, 1] and density per cell, in the input camera's frustum: float32 [N, 4, S/2 (depth), R, R]."""
        frames = frames if self.frame_attention else 1
        picture = picture.float()
        shown = resized(picture, 2 * self.side)
        dtype = weight_dtype(self.network)
        hints = draw_hints(shown, cameras.elevation, cameras.slope).to(dtype) if self.hints else None
        drawn = rearrange(self.network(shown.to(dtype), frames, hints).float(), "n (c z) y x -> n c z y x", c=4)
        if self.smooth:
            drawn = smooth(drawn)
        if self.own_hue:
            drawn = torch.cat([drawn[:, :3].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1, -1), drawn[:, 3:]], dim=1)
        depth = (torch.arange(self.side, device=picture.device) + 0.5) / self.side * 2 - 1
        start = 3.0 * torch.exp(-((depth / STARTING_THICKNESS) ** 2)) - 1.5
        density = DENSITY_GAIN * F.softplus(DENSITY_GAIN * drawn[:, 3:] + start[:, None, None])
        if self.settle:
            alpha = (resized(picture, self.side)[:, 3] + 1) / 2
            density = settle(density[:, 0], alpha, frames)[:, None]
        drawn = torch.cat([drawn[:, :3], density], dim=1)
        if self.rays != self.side:
            drawn = F.interpolate(drawn, size=(self.side, self.rays, self.rays), mode="trilinear")
        seen = (resized(picture, self.rays) + 1) / 2
        own = torch.logit(seen[:, :3].clamp(DARKEST, 1 - DARKEST))
        colour = torch.sigmoid(drawn[:, :3] + own[:, :, None])
        density = drawn[:, 3:] * seen[:, 3:, None]
        return self.made(torch.cat([colour, density], dim=1))


def resized(picture: Tensor, side: int) -> Tensor:
    """A square picture [N, C, H, H] made smaller, each pixel the mean over those in it."""
    return picture if picture.shape[-1] == side else F.adaptive_avg_pool2d(picture, side)
