"""Convolutional stem around the transformer: 64 → 32 → 16 → 8 pixels and back, with skips."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3×3 convolution, twice; the second convolution starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(GROUPS, width), nn.GroupNorm(GROUPS, width)
        self.conv_1, self.conv_2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> same."""
        x_1 = self.conv_1(F.silu(self.norm_1(x)))
        return x + self.conv_2(F.silu(self.norm_2(x_1)))


class StemEncoder(nn.Module):
    """Cells to the skips at S/2 and S/4, and by `down_quarter` to token features [N, width, S/8, S/8].

    Args:
        shown: channels of pictures that are seen beside the cells; their weights start at zero.
    """

    def __init__(self, channels: int, widths: tuple[int, int], width: int, shown: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.show = nn.Conv2d(4 * shown, widths[0], 3, padding=1, bias=False) if shown else None
        if self.show is not None:
            nn.init.zeros_(self.show.weight)
        self.block_half = ResidualBlock(widths[0])
        self.down_half = nn.Conv2d(widths[0], widths[1], 2, stride=2)
        self.block_quarter = ResidualBlock(widths[1])
        self.down_quarter = nn.Conv2d(widths[1], width, 2, stride=2)

    def forward(self, x: Tensor, shown: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[N, channels, S, S] and [N, shown, S, S] -> (skip at S/2, skip at S/4)."""
        half = self.enter(F.pixel_unshuffle(x, 2))
        if self.show is not None:
            assert shown is not None
            half = half + self.show(F.pixel_unshuffle(shown, 2))
        half = self.block_half(half)
        return half, self.block_quarter(self.down_half(half))


class StemDecoder(nn.Module):
    """Token features and skips back to cells: [N, width, S/8, S/8] -> [N, channels, S, S]; starts at zero."""

    def __init__(self, channels: int, widths: tuple[int, int], width: int) -> None:
        super().__init__()
        self.up_quarter = nn.Conv2d(width, 4 * widths[1], 1)
        self.block_quarter = ResidualBlock(widths[1])
        self.up_half = nn.Conv2d(widths[1], 4 * widths[0], 1)
        self.block_half = ResidualBlock(widths[0])
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, half: Tensor, quarter: Tensor, shade: Tensor | None = None) -> Tensor:
        """See the class; `shade` [N, 2 · widths[0]]: scale and shift of each cell's last features."""
        x = self.block_quarter(F.pixel_shuffle(self.up_quarter(tokens), 2) + quarter)
        x = self.norm(self.block_half(F.pixel_shuffle(self.up_half(x), 2) + half))
        if shade is not None:
            scale, shift = shade[..., None, None].to(x).chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return F.pixel_shuffle(self.leave(F.silu(x)), 2)
