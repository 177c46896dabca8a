"""The diffusion upsampler: a grid of small frames to one of large frames (section 4.1: 72 x 128 -> 288 x 512)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from viewtime.errors import UserError
from viewtime.model.four_real.base import BaseVideoModel
from viewtime.model.four_real.config import UpsamplerConfig
from viewtime.model.four_real.streams import FRAMES, VIEWS, along_time, along_views
from viewtime.model.shares import GridShares


def enlarge(small: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement of every cell: [B, V, F, C, h, w] -> [B, V, F, C, factor h, factor w]."""
    B, V = small.shape[:2]
    cells = rearrange(small, "b v f c h w -> (b v f) c h w")
    large = functional.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
    return rearrange(large, "(b v f) c h w -> b v f c h w", b=B, v=V)


def shrink(large: Tensor, factor: int) -> Tensor:
    """Mean over squares of pixels: [B, V, F, C, H, W] -> [B, V, F, C, H / factor, W / factor]."""
    B, V = large.shape[:2]
    cells = rearrange(large, "b v f c h w -> (b v f) c h w")
    return rearrange(functional.avg_pool2d(cells, factor), "(b v f) c h w -> b v f c h w", b=B, v=V)


class Upsampler(nn.Module):
    """Predicts the clean large grid, as a correction of the enlarged small grid; inside a `FlowCleanScaling`.

    Its blocks attend along rows and along columns in turn, so that detail agrees over time and over views. The
    correction starts at zero: a fresh upsampler is bilinear enlargement.
    """

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.base = BaseVideoModel(config.base)
        self.shares: GridShares | None = None

    def share_grid(self, shares: GridShares) -> None:
        """Have several processes work on each grid; they all call it with the same grids."""
        self.shares = shares

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Clean grid [B, V, F, C, H, W].

        Args:
            x: [B, V, F, C, H, W] noisy; t [B, V, F] in [0, 1].
            cond: `small` [B, V, F, C, H / factor, W / factor] in [-1, 1]; `text` [B, L, text_width] if there is any.

        Raises:
            UserError: no small grid, or one of another size.
        """
        B, V, F = x.shape[:3]
        size = (x.shape[-2], x.shape[-1])
        if "small" not in cond:
            raise UserError(f'4real upsampler: cond has no "small" grid, only {", ".join(sorted(cond)) or "nothing"}')
        enlarged = enlarge(cond["small"], self.config.factor)
        if enlarged.shape != x.shape:
            raise UserError(
                f"4real upsampler: a small grid {tuple(cond['small'].shape)} enlarged {self.config.factor} times does "
                f"not fit the noisy grid {tuple(x.shape)}"
            )
        base, shares = self.base, self.shares
        unknown = torch.zeros(x.shape[:3], dtype=torch.bool, device=x.device)
        of_frames = (t, unknown)
        if shares is not None:
            shares.check(views=V, frames=F)
            of_frames = tuple(shares.own(value, FRAMES) for value in of_frames)
            x, t, unknown, enlarged = (shares.own(value, VIEWS) for value in (x, t, unknown, enlarged))
        tokens, noise = base.embed(x, unknown, x, enlarged), base.noise_condition(t, unknown)
        views = torch.arange(V, device=x.device).expand(B, V)
        frames = torch.arange(F, device=x.device).expand(B, F)
        text = base.text_tokens(cond.get("text"), B)
        rows = base.row_context(noise, frames, size, text)
        columns = base.column_context(noise if shares is None else base.noise_condition(*of_frames), views, size, text)
        for index, block in enumerate(base.blocks):
            tokens = along_views(block, tokens, columns, shares) if index % 2 else along_time(block, tokens, rows)
        clean = enlarged + base.pixels(tokens, noise, size)
        return clean if shares is None else shares.whole(clean, VIEWS)
