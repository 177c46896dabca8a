"""The UNet of SVD, SV3D, SV4D and SV4D 2.0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from viewtime.errors import UserError
from viewtime.model.attention import Backend
from viewtime.model.denoiser import Conditioning
from viewtime.model.shares import GridShares
from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.embedding import EmbeddingMLP, sinusoidal
from viewtime.model.sv4d.grid_attention import DIVIDED, FRAMES, Context, GridAttention
from viewtime.model.sv4d.residual import Downsample, ResidualBlock, Upsample


class Stage(nn.Module):
    """A residual block, perhaps attention, perhaps upsampling."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig, attention: bool, backend: Backend):
        super().__init__()
        self.residual = ResidualBlock(in_channels, out_channels, 4 * config.channels)
        self.attention = GridAttention(out_channels, config, backend) if attention else None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[(B F V), C_in, H, W] -> [(B F V), C_out, H', W']."""
        x = self.residual(x, context)
        if self.attention is not None:
            x = self.attention(x, context)
        return x if self.upsample is None else self.upsample(x)


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, config: UNetConfig, backend: Backend):
        super().__init__()
        self.residual_in = ResidualBlock(channels, channels, 4 * config.channels)
        self.attention = GridAttention(channels, config, backend)
        self.residual_out = ResidualBlock(channels, channels, 4 * config.channels)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[(B F V), C, H, W] -> the same."""
        return self.residual_out(self.attention(self.residual_in(x, context), context), context)


class VideoUNet(nn.Module):
    """Predicts v from a noisy grid of latents.

    Args:
        config: which model this is.
        attention: backend of self-attention; see `viewtime.model.attention`.
        gradient_checkpointing: compute each stage again in the backward pass instead of keeping its activations.
    """

    def __init__(self, config: UNetConfig, attention: Backend = "sdpa", gradient_checkpointing: bool = False):
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.memory_format = torch.channels_last  # tokens and images are then views of each other, without copies
        width = config.channels
        self.noise_embed = EmbeddingMLP(width, 4 * width, 4 * width)
        self.vector_embed = EmbeddingMLP(config.vector_dim, 4 * width, 4 * width)
        self.conv_in = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.encoder, skips = _encoder(config, attention)
        self.middle = Middle(skips[-1], config, attention)
        self.decoder = _decoder(config, attention, skips)
        self.norm_out = nn.GroupNorm(32, width)
        self.conv_out = nn.Conv2d(width, config.out_channels, 3, padding=1)
        self.shares: GridShares | None = None

    def share_grid(self, shares: GridShares) -> None:
        """Have several processes work on each grid; they all call it with the same grids.

        Convolutions over space, attention over space and over frames see a process's own views. The convolutions along
        the cells and, in SV4D, attention over views see all views of some pixels; attention over views and pixels
        together (SV4D 2.0), all views of some frames.
        """
        self.shares = shares

    def forward(self, x: Tensor, noise_label: Tensor, cond: Conditioning) -> Tensor:
        """Predict v (or what the scaling says).

        Args:
            x: scaled noisy latents [B, V, F, 4, H, W]; SVD has V = 1, SV3D F = 1.
            noise_label: [B, V, F].
            cond: `concat` [B, 1|V, 1|F, 4, H, W] latents of the input; `vector` [B, 1|V, 1|F, vector_dim];
                `image_tokens` [B, 1|V, 1|F, context_dim] (SV4D: one per frame, so 1 on the view axis);
                SV4D: `reference_views` [B, V, 4, H, W]; SVD and SV3D: `image_only` bool [B, V, F], optional.

        Returns:
            [B, V, F, 4, H, W].

        Raises:
            UserError: the grid does not fit the model, or the processes that share it, or the latents are too small
                for its levels.
        """
        B, V, frames, _, height, width = x.shape
        self._check_grid(V, frames, height, width)
        x, concat = (self._own_views(value) for value in (x, cond["concat"].expand(B, V, frames, -1, -1, -1)))
        rows = rearrange(torch.cat([x, concat.to(x.dtype)], dim=3), "b v f c h w -> (b f v) c h w")
        rows = rows.to(self.conv_in.weight.dtype)
        rows = rows.contiguous(memory_format=self.memory_format)
        context = self._context(B, V, frames, noise_label, cond, rows.dtype)
        h = self.conv_in(rows)
        skips = [h]
        for stage in self.encoder:
            h = self._run(stage, h, context)
            skips.append(h)
        h = self._run(self.middle, h, context)
        for stage in self.decoder:
            h = self._run(stage, torch.cat([h, skips.pop()], dim=1), context)
        h = self.conv_out(F.silu(self.norm_out(h)))
        views = rearrange(h, "(b f v) c h w -> b v f c h w", b=B, f=frames)
        return views if self.shares is None else self.shares.whole(views, 1)

    def _own_views(self, value: Tensor) -> Tensor:
        """[B, V, ...] -> of the views that this process holds."""
        return value if self.shares is None else self.shares.own(value, 1)

    def _run(self, stage: nn.Module, h: Tensor, context: Context) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, h, context, use_reentrant=False)  # type: ignore[return-value]
        return stage(h, context)

    def _context(
        self, B: int, V: int, frames: int, noise_label: Tensor, cond: Conditioning, dtype: torch.dtype
    ) -> Context:
        noise = self.noise_embed(sinusoidal(noise_label, self.config.channels))
        embedding = noise + self.vector_embed(cond["vector"])
        axes, told = self.config.axes, self.config.frame_context
        reference = cond["reference_views"].to(dtype) if axes == "view-frame" and told != "clip" else None
        if reference is not None and told == "none":
            reference = torch.zeros_like(reference)
        image_only = cond.get("image_only") if axes != "view-frame" else None
        return Context(
            batch=B,
            frames=frames,
            views=V,
            embedding=rearrange(embedding, "b v f d -> b f v d"),
            image_tokens=repeat(cond["image_tokens"].to(dtype), "b v f d -> b f v 1 d"),
            reference=None if reference is None else rearrange(self._own_views(reference), "b v c h w -> (b v) c h w"),
            image_only=None if image_only is None else rearrange(image_only.bool(), "b v f -> b f v"),
            shares=self.shares,
        )

    def _check_grid(self, views: int, frames: int, height: int, width: int) -> None:
        axes = self.config.axes
        if (axes == "frame" and views != 1) or (axes == "view" and frames != 1):
            raise UserError(f"a model over the axis {axes!r} takes one {'view' if axes == 'frame' else 'frame'}; "
                            f"the grid is {views} views × {frames} frames")  # fmt: skip
        step = 2 ** (len(self.config.multipliers) - 1)
        if height % step or width % step:
            raise UserError(f"latents are {height}×{width}; height and width must be multiples of {step}")
        if self.shares is not None:
            self.shares.check(views=views)
            self.shares.check_parts(pixels=height // step * width // step)
            if DIVIDED[self.config.view_attention] == FRAMES:
                self.shares.check_parts(frames=frames)


def _encoder(config: UNetConfig, backend: Backend) -> tuple[nn.ModuleList, list[int]]:
    """Stages going down, and the channels of every skip connection."""
    stages, channels, skips = nn.ModuleList(), config.channels, [config.channels]
    for level, multiplier in enumerate(config.multipliers):
        for _ in range(config.residual_blocks):
            out = multiplier * config.channels
            stages.append(Stage(channels, out, config, config.attention_levels[level], backend))
            channels = out
            skips.append(channels)
        if level + 1 < len(config.multipliers):
            stages.append(Downsample(channels))
            skips.append(channels)
    return stages, skips


def _decoder(config: UNetConfig, backend: Backend, skips: list[int]) -> nn.ModuleList:
    stages, left, channels = nn.ModuleList(), list(skips), skips[-1]
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for block in range(config.residual_blocks + 1):
            out = multiplier * config.channels
            stage = Stage(channels + left.pop(), out, config, config.attention_levels[level], backend)
            if level and block == config.residual_blocks:
                stage.upsample = Upsample(out)
            stages.append(stage)
            channels = out
    return stages
