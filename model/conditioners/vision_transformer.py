"""OpenCLIP's image tower, with its names; importing open_clip itself takes longer than loading the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import attend
from viewtime.model.published.video_config import ImageEncoderConfig


def _random(width: int, *shape: int) -> nn.Parameter:
    """Values of variance 1 / width. Uniform, because a normal draw on the meta device imports torch's compiler."""
    bound = (3 / width) ** 0.5
    return nn.Parameter(nn.init.uniform_(torch.empty(*shape), -bound, bound))


class StackedAttention(nn.Module):
    """Self-attention whose query, key and value projections are stacked in one matrix, as in nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = _random(width, 3 * width, width)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, C] -> [N, L, C]."""
        stacked = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = rearrange(stacked, "n l (three h d) -> three n h l d", three=3, h=self.heads)
        return self.out_proj(rearrange(attend(query, key, value), "n h l d -> n l (h d)"))


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class TowerMLP(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.activation = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class TowerBlock(nn.Module):
    """Pre-norm residual attention and MLP."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = StackedAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = TowerMLP(width, activation)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, C] -> [N, L, C]."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    """The list of blocks, under the name that the published files give it."""

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.resblocks = nn.ModuleList(
            TowerBlock(config.width, config.heads, config.activation) for _ in range(config.layers)
        )


class VisionTransformer(nn.Module):
    """Patches and a class token through the blocks; the class token's projection is the embedding."""

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        width, patches = config.width, (config.image_size // config.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = _random(width, width)
        self.positional_embedding = _random(width, patches + 1, width)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Tower(config)
        self.ln_post = nn.LayerNorm(width)
        self.proj = _random(width, width, config.out_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, image_size, image_size] -> [N, out_dim]."""
        patches = rearrange(self.conv1(pixels), "n c h w -> n (h w) c")
        start = self.class_embedding.to(patches).expand(len(pixels), 1, -1)
        tokens = self.ln_pre(torch.cat([start, patches], dim=1) + self.positional_embedding.to(patches))
        for block in self.transformer.resblocks:
            tokens = block(tokens)
        return self.ln_post(tokens[:, 0]) @ self.proj
