"""The rasteriser for CUDA, and for a CPU without a compiler: one source for both (Warp), tile by tile (3DGS, 6)."""
# pyright: reportInvalidTypeForm=false

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .splats import MAXIMUM_ALPHA, MINIMUM_ALPHA, MINIMUM_TRANSMITTANCE, NEAR, Splats
from .warp_kernels import launch, load_warp

wp = load_warp()
TILE = 16  # pixels
MAXIMUM_CHANNELS = 8


@dataclass(frozen=True)
class Tiles:
    """Which Gaussians reach which tile, near ones first.

    Attributes:
        owner: int32 [P], number of the Gaussian over all images (b · N + n), tile after tile.
        start: int32 [B · tiles + 1]; those of tile k are owner[start[k] : start[k + 1]].
        rows, columns: tiles of one image.
    """

    owner: Tensor
    start: Tensor
    rows: int
    columns: int

    @staticmethod
    def of(mean: Tensor, conic: Tensor, opacity: Tensor, depth: Tensor, height: int, width: int) -> "Tiles":
        """Bounding boxes of the ellipses on which a Gaussian still weighs MINIMUM_ALPHA; shapes as `Splats`."""
        B, N = opacity.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        nearest = depth.argsort(dim=1, stable=True) + N * torch.arange(B, device=depth.device)[:, None]
        nearest = nearest.flatten()  # image after image
        a, b, c = conic.reshape(-1, 3)[nearest].unbind(1)
        centre, faint = mean.reshape(-1, 2)[nearest], opacity.flatten()[nearest]
        determinant = a * c - b * b
        reach = 2 * (faint / MINIMUM_ALPHA).log()
        drawn = (faint > MINIMUM_ALPHA) & (determinant > 0) & (depth.flatten()[nearest] > NEAR)
        drawn &= centre.isfinite().all(dim=1)
        half = (reach[:, None] * torch.stack([c, a], dim=1) / determinant[:, None]).sqrt()
        low, high = (centre - half - 0.5).ceil(), (centre + half - 0.5).floor()
        drawn &= ((low <= high) & (high >= 0)).all(dim=1) & (low[:, 0] < width) & (low[:, 1] < height)
        low, high = low.where(drawn[:, None], 0).clamp(min=0), high.where(drawn[:, None], 0)
        last = torch.stack([high[:, 0].clamp(max=width - 1), high[:, 1].clamp(max=height - 1)], dim=1).long() // TILE
        first = low.long() // TILE
        wide, tall = (last - first + 1).unbind(1)
        count = wide * tall * drawn
        before = count.cumsum(0) - count
        pair = torch.repeat_interleave(torch.arange(B * N, device=mean.device), count)
        inside = torch.arange(len(pair), device=mean.device) - before[pair]
        row = first[pair, 1] + inside.div(wide[pair], rounding_mode="floor")
        tile = ((nearest[pair] // N) * rows + row) * columns + first[pair, 0] + inside % wide[pair]
        tile, order = tile.sort(stable=True)
        start = torch.searchsorted(tile, torch.arange(B * rows * columns + 1, device=mean.device))
        return Tiles(nearest[pair][order].int(), start.int(), rows, columns)


@functools.cache
def raster_kernels(channels: int) -> tuple[Any, Any]:
    """Kernels (forward, backward) for C features; a thread composites one pixel front to back."""
    C, tile_side = channels, TILE
    faintest, solid, least = MINIMUM_ALPHA, MAXIMUM_ALPHA, MINIMUM_TRANSMITTANCE
    value_type = wp.types.vector(length=channels, dtype=wp.float32)

    @wp.func
    def alpha_of(mean: wp.array2d(dtype=wp.float32), conic: wp.array2d(dtype=wp.float32), g: int, u: float, v: float):
        dx = u - mean[g, 0]
        dy = v - mean[g, 1]
        return wp.exp(-0.5 * (conic[g, 0] * dx * dx + conic[g, 2] * dy * dy) - conic[g, 1] * dx * dy)

    @wp.kernel(module="unique", enable_backward=False)
    def forward(
        mean: wp.array2d(dtype=wp.float32),
        conic: wp.array2d(dtype=wp.float32),
        opacity: wp.array(dtype=wp.float32),
        feature: wp.array2d(dtype=wp.float32),
        owner: wp.array(dtype=wp.int32),
        start: wp.array(dtype=wp.int32),
        rows: int,
        columns: int,
        out: wp.array4d(dtype=wp.float32),
    ):
        image, y, x = wp.tid()
        tile = (image * rows + y // tile_side) * columns + x // tile_side
        total = value_type()
        light = float(1.0)
        i = start[tile]
        while i < start[tile + 1] and light >= least:
            g = owner[i]
            i += 1
            alpha = opacity[g] * alpha_of(mean, conic, g, float(x) + 0.5, float(y) + 0.5)
            if alpha >= faintest:
                weight = light * wp.min(alpha, solid)
                for c in range(C):
                    total[c] += weight * feature[g, c]
                light -= weight
        for c in range(C):
            out[image, c, y, x] = total[c]
        out[image, C, y, x] = 1.0 - light

    @wp.kernel(module="unique", enable_backward=False)
    def backward(
        mean: wp.array2d(dtype=wp.float32),
        conic: wp.array2d(dtype=wp.float32),
        opacity: wp.array(dtype=wp.float32),
        feature: wp.array2d(dtype=wp.float32),
        owner: wp.array(dtype=wp.int32),
        start: wp.array(dtype=wp.int32),
        rows: int,
        columns: int,
        out: wp.array4d(dtype=wp.float32),
        grad_out: wp.array4d(dtype=wp.float32),
        grad_mean: wp.array2d(dtype=wp.float32),
        grad_conic: wp.array2d(dtype=wp.float32),
        grad_opacity: wp.array(dtype=wp.float32),
        grad_feature: wp.array2d(dtype=wp.float32),
    ):
        image, y, x = wp.tid()
        tile = (image * rows + y // tile_side) * columns + x // tile_side
        wanted = value_type()
        rest = grad_out[image, C, y, x] * out[image, C, y, x]  # what the Gaussians not yet passed give to grad · out
        for c in range(C):
            wanted[c] = grad_out[image, c, y, x]
            rest += wanted[c] * out[image, c, y, x]
        light = float(1.0)
        i = start[tile]
        while i < start[tile + 1] and light >= least:
            g = owner[i]
            i += 1
            bell = alpha_of(mean, conic, g, float(x) + 0.5, float(y) + 0.5)
            alpha = opacity[g] * bell
            if alpha >= faintest:
                kept = wp.min(alpha, solid)
                weight = light * kept
                along = grad_out[image, C, y, x]
                for c in range(C):
                    along += wanted[c] * feature[g, c]
                    wp.atomic_add(grad_feature, g, c, weight * wanted[c])
                rest -= weight * along
                if alpha < solid:
                    slope = light * along - rest / (1.0 - kept)
                    q = slope * alpha
                    dx = float(x) + 0.5 - mean[g, 0]
                    dy = float(y) + 0.5 - mean[g, 1]
                    wp.atomic_add(grad_opacity, g, slope * bell)
                    wp.atomic_add(grad_mean, g, 0, q * (conic[g, 0] * dx + conic[g, 1] * dy))
                    wp.atomic_add(grad_mean, g, 1, q * (conic[g, 1] * dx + conic[g, 2] * dy))
                    wp.atomic_add(grad_conic, g, 0, -0.5 * q * dx * dx)
                    wp.atomic_add(grad_conic, g, 1, -q * dx * dy)
                    wp.atomic_add(grad_conic, g, 2, -0.5 * q * dy * dy)
                light -= weight

    return forward, backward


def _flat(mean: Tensor, conic: Tensor, opacity: Tensor, feature: Tensor) -> list[Tensor]:
    """Gaussians of all images one after the other, as the kernels count them."""
    return [
        mean.reshape(-1, 2).contiguous(), conic.reshape(-1, 3).contiguous(), opacity.reshape(-1).contiguous(),
        feature.reshape(-1, feature.shape[-1]).contiguous(),
    ]  # fmt: skip


@torch.library.custom_op("viewtime::splat_composite", mutates_args=())
def splat_composite(
    mean: Tensor, conic: Tensor, opacity: Tensor, depth: Tensor, feature: Tensor, height: int, width: int
) -> Tensor:
    """[B, C + 1, H, W] as `composite_reference`; the tensors of `Splats`."""
    B, _, C = feature.shape
    out = mean.new_empty(B, C + 1, height, width)
    tiles = Tiles.of(mean, conic, opacity, depth, height, width)
    gaussians = _flat(mean, conic, opacity, feature)
    launch(
        raster_kernels(C)[0], (B, height, width), [*gaussians, tiles.owner, tiles.start, tiles.rows, tiles.columns, out]
    )
    return out


@torch.library.custom_op("viewtime::splat_composite_backward", mutates_args=())
def splat_composite_backward(
    grad_out: Tensor, out: Tensor, mean: Tensor, conic: Tensor, opacity: Tensor, depth: Tensor, feature: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of mean, conic, opacity and feature; the tiles are found anew, as keeping them would cost memory."""
    B, _, height, width = out.shape
    tiles = Tiles.of(mean, conic, opacity, depth, height, width)
    grads = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (mean, conic, opacity, feature)]
    written = [grads[0].view(-1, 2), grads[1].view(-1, 3), grads[2].view(-1), grads[3].view(-1, feature.shape[-1])]
    lists = [tiles.owner, tiles.start, tiles.rows, tiles.columns]
    launch(
        raster_kernels(feature.shape[-1])[1], (B, height, width),
        [*_flat(mean, conic, opacity, feature), *lists, out, grad_out.contiguous(), *written],
    )  # fmt: skip
    return grads[0], grads[1], grads[2], grads[3]


@splat_composite.register_fake
def _(mean, conic, opacity, depth, feature, height, width):
    return mean.new_empty(feature.shape[0], feature.shape[2] + 1, height, width)


@splat_composite_backward.register_fake
def _(grad_out, out, mean, conic, opacity, depth, feature):
    return tuple(torch.empty_like(value) for value in (mean, conic, opacity, feature))


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[:5])


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    grad_mean, grad_conic, grad_opacity, grad_feature = splat_composite_backward(grad_out, *ctx.saved_tensors)
    return grad_mean, grad_conic, grad_opacity, None, grad_feature, None, None


splat_composite.register_autograd(_backward, setup_context=_keep)


def composite_warp(splats: Splats, height: int, width: int) -> Tensor:
    """As `composite_reference`, in float32, on CUDA or the CPU; [B, C + 1, H, W].

    Raises:
        ValueError: more than 8 feature channels, or another precision.
    """
    C, dtype = splats.feature.shape[-1], splats.mean.dtype
    if C > MAXIMUM_CHANNELS or dtype != torch.float32:
        raise ValueError(f"{C} channels of {dtype}; the Warp rasteriser takes {MAXIMUM_CHANNELS} of float32")
    return splat_composite(splats.mean, splats.conic, splats.opacity, splats.depth, splats.feature, height, width)
