"""Residual blocks: convolution over space, then over the flattened grid, blended; down- and upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.full_precision import FullPrecisionLinear
from viewtime.model.shares import GridShares
from viewtime.model.sv4d.blend import Blend
from viewtime.model.sv4d.convolution import ImageConvolution, PointConvolution, SequenceConvolution
from viewtime.model.sv4d.grid_attention import PIXELS, Context


def _silu(fresh: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs what was there."""
    return F.silu(fresh, inplace=not torch.is_grad_enabled())


def _add(fresh: Tensor, other: Tensor) -> Tensor:
    """fresh + other, in place where no gradient needs what was there."""
    return fresh + other if torch.is_grad_enabled() else fresh.add_(other)


class SpaceConvolutions(nn.Module):
    """GroupNorm, SiLU, conv, + embedding, GroupNorm, SiLU, conv, + input; per image."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(32, in_channels)
        self.conv_in = ImageConvolution(in_channels, out_channels)
        self.embed = FullPrecisionLinear(embedding_dim, out_channels)
        self.norm_out = nn.GroupNorm(32, out_channels)
        self.conv_out = ImageConvolution(out_channels, out_channels)
        self.skip = PointConvolution(in_channels, out_channels) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [N, C_in, H, W], embedding [N, D] -> [N, C_out, H, W]."""
        h = self.conv_in(_silu(self.norm_in(x)))
        h = _add(h, self.embed(F.silu(embedding)).to(h.dtype)[:, :, None, None])
        return _add(self.conv_out(_silu(self.norm_out(h))), self.skip(x))


def norm_over_processes(norm: nn.GroupNorm, x: Tensor, shares: GridShares | None) -> Tensor:
    """`norm` of [B, C, L, S], of whose positions S each process may hold some: the statistics are those of all.

    Parts are put together by their own means and variances (Chan et al. 1979), which loses nothing to cancellation.
    """
    if shares is None:
        return norm(x)
    full = x.to(torch.promote_types(x.dtype, torch.float32))
    groups = rearrange(full, "b (g c) l s -> b g (c l s)", g=norm.num_groups)
    variance, mean = torch.var_mean(groups, dim=-1, correction=0)
    parts = torch.stack([mean, variance, torch.full_like(mean, groups.shape[-1])])
    means, variances, sizes = shares.whole(parts[None], 0).unbind(1)
    weights = sizes / sizes.sum(0)
    mean = (weights * means).sum(0)
    variance = (weights * (variances + (means - mean).square())).sum(0)
    scale = rearrange((variance + norm.eps).rsqrt(), "b g -> b g 1") * norm.weight.view(norm.num_groups, -1)
    shift = norm.bias.view(norm.num_groups, -1) - rearrange(mean, "b g -> b g 1") * scale
    scale, shift = (rearrange(value, "b g c -> b (g c) 1 1") for value in (scale, shift))
    return (full * scale + shift).to(x.dtype)


class GridConvolutions(nn.Module):
    """The same residual block along the sequence of all cells of a sample, view fastest.

    Group statistics are taken over all cells of the sample together, as in the published networks.
    """

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(32, channels)
        self.conv_in = SequenceConvolution(channels, channels)
        self.embed = FullPrecisionLinear(embedding_dim, channels)
        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = SequenceConvolution(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor, shares: GridShares | None) -> Tensor:
        """x [B, C, L, S], embedding [B, L, D] -> [B, C, L, S]; of S, processes that share the grid hold a part each."""
        h = self.conv_in(_silu(norm_over_processes(self.norm_in, x, shares)))
        h = _add(h, rearrange(self.embed(F.silu(embedding)).to(h.dtype), "b l c -> b c l 1"))
        return _add(self.conv_out(_silu(norm_over_processes(self.norm_out, h, shares))), x)


class ResidualBlock(nn.Module):
    """Convolutions over space, then over the grid, blended."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.space = SpaceConvolutions(in_channels, out_channels, embedding_dim)
        self.grid = GridConvolutions(out_channels, embedding_dim)
        self.blend = Blend()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[(B F V), C_in, H, W] of the views that this process holds -> [(B F V), C_out, H, W]."""
        embedding = context.embedding

        def along_cells(cells: Tensor) -> Tensor:
            sequence = rearrange(cells, "b f v s c -> b c (f v) s")
            mixed = self.grid(sequence, rearrange(embedding, "b f v d -> b (f v) d"), context.shares)
            return rearrange(mixed, "b c (f v) s -> b f v s c", v=context.views)

        spatial = self.space(x, rearrange(context.own(embedding), "b f v d -> (b f v) d"))
        cells = rearrange(spatial, "(b f v) c h w -> b f v (h w) c", b=context.batch, f=context.frames)
        mixed = context.with_all_views(along_cells, cells, PIXELS)
        mixed = rearrange(mixed, "b f v (h w) c -> (b f v) c h w", h=x.shape[-2])
        image_only = None
        if context.image_only is not None:
            image_only = rearrange(context.own(context.image_only), "b f v -> (b f v) 1 1 1")
        return self.blend(spatial, mixed, image_only)


class Downsample(nn.Module):
    """Halve height and width by a strided convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ImageConvolution(channels, channels, stride=2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ImageConvolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
