"""One attention layer: space, then views and/or frames, each blended with what went before (SV4D, appendix A.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import Backend
from viewtime.model.shares import GridShares
from viewtime.model.sv4d.blend import Blend
from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.embedding import EmbeddingMLP, sinusoidal
from viewtime.model.sv4d.linear import Linear
from viewtime.model.sv4d.transformer import Group, TransformerBlock

FRAMES, VIEWS, PIXELS = 1, 2, 3  # axes of [B, F, V, S, C]


class Context(NamedTuple):
    """What every layer of one forward call shares. F comes before V, as the published weights want rows.

    Where processes share the grid, all of it is of the whole grid but for `reference`.
    """

    batch: int
    frames: int
    views: int
    embedding: Tensor
    """Noise and vector embedding per cell [B, F, V, D], float32."""
    image_tokens: Tensor
    """Image embedding [B, 1|F, 1|V, 1, context_dim]."""
    reference: Tensor | None
    """Latents of the reference views that this process holds, [(B V), reference_channels, H, W]; None where frames are
    told something else."""
    image_only: Tensor | None
    """Cells that are still images, bool [B, F, V]."""
    shares: GridShares | None

    def own(self, value: Tensor, axis: int = VIEWS) -> Tensor:
        """What of [B, 1|F, 1|V, …] is this process's: the part along an axis, if the grid is shared and it has any."""
        return value if self.shares is None or value.shape[axis] == 1 else self.shares.own(value, axis)

    def with_all_views(self, layer: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
        """Call a layer that mixes views, on [B, F, V, S, C] of this process's views -> the same.

        Args:
            layer: where the grid is shared it sees all views of a part of another axis, `axis`.
        """
        return layer(x) if self.shares is None else self.shares.through(layer, x, VIEWS, axis)


GROUPS: dict[str, Group] = {"pixel": "view", "raster": "raster", "joint": "view-space"}
DIVIDED = {"pixel": PIXELS, "raster": FRAMES, "joint": FRAMES}
"""Along which axis attention over views falls apart into independent parts."""


class GridAttention(nn.Module):
    """Attention over space, and over the axes of the grid that the configuration names."""

    def __init__(self, channels: int, config: UNetConfig, backend: Backend):
        super().__init__()
        self.config, self.channels = config, channels
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.project_in = Linear(channels, channels)
        self.project_out = Linear(channels, channels)
        head_dim, context_dim = config.head_dim, config.context_dim
        self.space = TransformerBlock(channels, context_dim, head_dim, "space", mlp_in=False, backend=backend)
        self.has_views = config.axes != "frame"
        self.has_frames = config.axes != "view"
        if self.has_views:
            group = GROUPS[config.view_attention]
            self.view = TransformerBlock(channels, context_dim, head_dim, group, mlp_in=True, backend=backend)
            in_dim = channels if config.view_embedding == "index" else 4 * config.channels
            self.view_embed = EmbeddingMLP(in_dim, 4 * channels, channels)
            self.view_blend = Blend()
        if self.has_frames:
            of_views = self.has_views and config.frame_context != "clip"
            frame_context = config.reference_channels if of_views else context_dim
            self.frame = TransformerBlock(channels, frame_context, head_dim, "frame", mlp_in=True, backend=backend)
            self.frame_embed = EmbeddingMLP(channels, 4 * channels, channels)
            if config.separate_blend or not self.has_views:
                self.frame_blend = Blend()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[(B F V), C, H, W] of the views that this process holds -> the same."""
        height, width = x.shape[-2:]
        sizes = {"b": context.batch, "f": context.frames, "h": height}
        tokens = rearrange(self.norm(x), "(b f v) c h w -> b f v (h w) c", **sizes)
        tokens = self.space(self.project_in(tokens), context.own(context.image_tokens))
        if self.has_views:
            tokens = self._attend_views(tokens, context)
        if self.has_frames:
            tokens = self._attend_frames(tokens, context, (height, width))
        return x + rearrange(self.project_out(tokens), "b f v (h w) c -> (b f v) c h w", h=height)

    def _attend_views(self, tokens: Tensor, context: Context) -> Tensor:
        if self.config.view_embedding == "index":
            index = torch.arange(context.views, device=tokens.device)
            shift = rearrange(self.view_embed(sinusoidal(index, self.channels)), "v c -> 1 1 v 1 c")
        else:
            shift = rearrange(self.view_embed(context.embedding[:, 0]), "b v c -> b 1 v 1 c")
        token = context.image_tokens
        if not self.has_frames:
            token = token[:, :, :1]  # SV3D: the whole orbit sees the first view's embedding
        if self.config.view_attention == "raster":
            token = _raster_tokens(token, (context.frames, context.views, tokens.shape[PIXELS]))
        axis = DIVIDED[self.config.view_attention]
        token = context.own(token, axis)
        image_only = None if context.image_only is None else context.own(context.image_only[..., None, None], axis)

        def attend(tokens: Tensor) -> Tensor:
            return self.view_blend(tokens, self.view(tokens + shift.to(tokens.dtype), token), image_only)

        return context.with_all_views(attend, tokens, axis)

    def _attend_frames(self, tokens: Tensor, context: Context, size: tuple[int, int]) -> Tensor:
        index = torch.arange(context.frames, device=tokens.device)
        shift = rearrange(self.frame_embed(sinusoidal(index, self.channels)), "f c -> 1 f 1 1 c")
        if context.reference is None:
            token = context.own(context.image_tokens[:, :1])  # SVD, table 7's "CLIP MV": all see the first frame's
        else:
            resized = F.interpolate(context.reference, size, mode="bilinear", align_corners=False)
            token = rearrange(resized, "(b v) c h w -> b 1 v (h w) c", b=context.batch)
        image_only = None if context.image_only is None else context.own(context.image_only)[..., None, None]
        blend = self.view_blend if self.has_views and not self.config.separate_blend else self.frame_blend
        return blend(tokens, self.frame(tokens + shift.to(tokens.dtype), token), image_only)


def _raster_tokens(image_tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Image embeddings in the order in which the published raster grouping reads them.

    The published code pairs query rows ordered (group, frame) with context rows ordered (frame, pixel), so that
    group g of frame f sees the embedding of frame (g F + f) div S.

    Args:
        image_tokens: [B, F, 1, 1, D].
        grid: (F, V, S).

    Returns:
        [B, F, V, S, D].
    """
    frames, views, positions = grid
    device = image_tokens.device
    group = torch.arange(views * positions, device=device) // views
    frame = torch.arange(frames, device=device)[:, None]
    source = (group * frames + frame) // positions
    per_frame = rearrange(image_tokens, "b f 1 1 d -> b f d")
    return rearrange(per_frame[:, source], "b f (v s) d -> b f v s d", v=views)
