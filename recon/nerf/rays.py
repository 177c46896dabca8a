"""Rays of a step: drawn from a few cells, most of them where the object or its rim is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnF
from einops import rearrange
from torch import Tensor

from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.splats import Viewpoints

from .occupancy import widen
from .rendering import Rays

RIM = 2.0  # pixels around the mask that count as its rim
ANYWHERE = 0.1  # share of the rays that fall anywhere in the picture


@dataclass(frozen=True)
class Scale:
    """The pictures at one size.

    Attributes:
        images: [V, F, 4, h, w]. width_ratio, height_ratio: full size over this size.
        active: pixel numbers [P] of all cells on the object or its rim, cell after cell; those of cell b (view-major)
            are active[start[b] : start[b + 1]]. Both on the CPU, where the rays are drawn.
    """

    images: Tensor
    width_ratio: float
    height_ratio: float
    active: Tensor
    start: Tensor

    @staticmethod
    def of(images: Tensor, height: int, full: tuple[int, int]) -> Scale:
        """Pictures [V, F, 4, H, W] shrunk to `height` by area."""
        V, _, _, H, W = images.shape
        width = max(1, round(W * height / H))
        if height != H:
            flat = rearrange(images, "v f c h w -> (v f) c h w")
            small = nnF.interpolate(flat, size=(height, width), mode="area")
            images = rearrange(small, "(v f) c h w -> v f c h w", v=V)
        rim = widen(rearrange(images[:, :, 3], "v f h w -> (v f) h w"), RIM).flatten(1).cpu() > 0.02
        count = rim.sum(dim=1)
        start = torch.cat([torch.zeros(1, dtype=torch.long), count.cumsum(0)])
        return Scale(images, full[1] / width, full[0] / height, rim.nonzero()[:, 1].contiguous(), start)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        h, w = self.images.shape[-2:]
        return h, w

    def draw(self, cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Pixel numbers [B, count] in the given cells."""
        h, w = self.size
        length = self.start[cells + 1] - self.start[cells]
        share = torch.rand(len(cells), count, generator=generator)
        chosen = self.start[cells, None] + (share * length[:, None]).long()
        on = self.active[chosen.clamp(max=max(0, len(self.active) - 1))]
        anywhere = torch.randint(0, h * w, (len(cells), count), generator=generator)
        stray = torch.rand(len(cells), count, generator=generator) < ANYWHERE
        return torch.where(stray | (length[:, None] == 0), anywhere, on)

    def patches(self, cells: Tensor, side: int, generator: torch.Generator) -> Tensor:
        """Pixel numbers [B, side, side] of a square in each cell, about a pixel of the object or its rim."""
        h, w = self.size
        middle = self.draw(cells, 1, generator)[:, 0]
        top = (middle // w - side // 2).clamp(0, max(0, h - side))
        left = (middle % w - side // 2).clamp(0, max(0, w - side))
        step = torch.arange(side)
        rows, columns = (top[:, None] + step).clamp(max=h - 1), (left[:, None] + step).clamp(max=w - 1)
        return rows[:, :, None] * w + columns[:, None]

    def values(self, cells: Tensor, pixels: Tensor) -> Tensor:
        """RGB on white and mask [..., 4] at pixel numbers; cells and pixels of one shape."""
        F = self.images.shape[1]
        w = self.size[1]
        cells, pixels = cells.to(self.images.device), pixels.to(self.images.device)
        return self.images[cells // F, cells % F, :, pixels // w, pixels % w]

    def place(self, pixels: Tensor) -> Tensor:
        """Pixel numbers [...] -> centres [..., 2] (x, y) in pixels of the full size."""
        w = self.size[1]
        return torch.stack([(pixels % w + 0.5) * self.width_ratio, (pixels // w + 0.5) * self.height_ratio], dim=-1)


def make_scales(targets: Targets, start_size: int) -> list[Scale]:
    """Sizes of the static stage: from `start_size` doubling to the full one, of the first frame; then all frames."""
    H, W = targets.images.shape[-2:]
    heights, height = [], start_size
    while height < H:
        heights.append(height)
        height *= 2
    first = targets.images[:, :1]
    return [*[Scale.of(first, h, (H, W)) for h in [*heights, H]], Scale.of(targets.images, H, (H, W))]


def cast(views: Viewpoints, cell: Tensor, place: Tensor, slot: Tensor) -> Rays:
    """Rays through places on the image plane.

    Args:
        views: B cameras. cell: int64 [R], which camera. place: [R, 2] pixels. slot: int64 [R], which instant.
    """
    focal, centre = views.focal[cell], views.centre[cell]
    camera = torch.cat([(place - centre) / focal[:, None], torch.ones_like(focal)[:, None]], dim=1)
    camera = nnF.normalize(camera, dim=1)
    rotation, translation = views.world_to_camera[:, :3, :3], views.world_to_camera[:, :3, 3]
    origin = -(rotation.transpose(1, 2) @ translation[:, :, None])[..., 0]
    directions = (camera[:, None] @ rotation[cell])[:, 0]
    return Rays(origin[cell], directions, slot)
