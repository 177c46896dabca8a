"""The grid model: a base video model run along both axes of a grid of views x frames (section 3.2)."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.four_real.base import DYNAMIC, FREEZE_TIME, BaseVideoModel
from viewtime.model.four_real.block import BlockContext, VideoBlock
from viewtime.model.four_real.config import GridConfig
from viewtime.model.four_real.fused import attend_fused
from viewtime.model.four_real.streams import FRAMES, VIEWS, sequential, two_streams
from viewtime.model.four_real.synchronise import HardSynchronisation, SoftSynchronisation, ramp_weight
from viewtime.model.shares import GridShares


class GridModel(nn.Module):
    """Predicts the velocity of every cell of a grid, given any subset of cells (the first row and column in training).

    The blocks are the base model's, frozen; what trains by default depends on the variant (section 4.1 and 7):
    "soft" and "hard": the synchronisation layers; "sequential": its own copy of the self-attention across time;
    "fused": the self-attention of the blocks, which have no added parameters.
    """

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.base = BaseVideoModel(config.base)
        D, depth = config.base.width, config.base.depth
        if config.variant == "hard":
            self.synchronisation = nn.ModuleList(HardSynchronisation(D) for _ in range(depth))
        elif config.variant == "soft":
            ramp = config.soft_start == "ramp"
            self.synchronisation = nn.ModuleList(
                SoftSynchronisation(D, ramp_weight(layer + 1, depth) if ramp else 0.0) for layer in range(depth)
            )
        elif config.variant == "sequential":
            self.time_attention = nn.ModuleList(copy.deepcopy(block.attention) for block in self._blocks())
        self.freeze_base()
        self.shares: GridShares | None = None

    def share_grid(self, shares: GridShares) -> None:
        """Have several processes work on each grid; they all call it with the same grids.

        Raises:
            UserError: the variant "fused", whose attention needs a cell's view and instant at once.
        """
        if self.config.variant == "fused":
            raise UserError('4real: the variant "fused" attends along both axes at once; context_parallel must be 1')
        self.shares = shares

    def _blocks(self) -> list[VideoBlock]:
        return cast(list[VideoBlock], list(self.base.blocks))

    def freeze_base(self) -> None:
        """Leave gradients on for the parameters that train by default, and for no others."""
        self.requires_grad_(False)
        for name in self.trained_parameters():
            self.get_parameter(name).requires_grad_(True)

    def trained_parameters(self) -> list[str]:
        """Names of the parameters that train by default."""
        if self.config.variant == "fused":
            return [name for name, _ in self.named_parameters() if ".attention." in name]
        own = ("synchronisation.", "time_attention.")
        return [name for name, _ in self.named_parameters() if name.startswith(own)]

    def load_base(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a trained base model (keys without prefix), strictly; copies follow."""
        self.base.load_state_dict(state)
        if self.config.variant == "sequential":
            for own, block in zip(self.time_attention, self._blocks(), strict=True):
                own.load_state_dict(block.attention.state_dict())

    def forward(self, x: Tensor, noise_label: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Velocity of each cell, [B, V, F, C, H, W]: the mean of what the two streams say.

        The network inside a `FlowScaling`.

        Args:
            x: [B, V, F, C, H, W] noisy, C as in the config; noise_label [B, V, F], 1000 t.
            cond: `known` [B, V, F] bool, `known_frames` like x. Where there is any: `text` [B, L, text_width];
                `view_order` [B, V] and `frame_order` [B, F], places along the two axes (0, 1, 2 ... by default).
        """
        time, view = self._own_velocities(x, noise_label, cond)
        mean = (time + view) / 2
        return mean if self.shares is None else self.shares.whole(mean, VIEWS)

    def stream_velocities(self, x: Tensor, noise_label: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(velocity of the time stream, of the view stream), arguments as in `forward`.

        The variants with one set of tokens ("hard", "sequential") read it with the condition of either kind of
        video; "fused" knows one condition, so both are the same.
        """
        time, view = self._own_velocities(x, noise_label, cond)
        return (time, view) if self.shares is None else (self.shares.whole(time, VIEWS), self.shares.whole(view, VIEWS))

    def _own_velocities(self, x: Tensor, noise_label: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As `stream_velocities`, of the views that this process holds."""
        B, V, F = x.shape[:3]
        size = (x.shape[-2], x.shape[-1])
        base, variant, shares = self.base, self.config.variant, self.shares
        t, known, known_frames = noise_label / 1000, cond["known"], cond["known_frames"]
        of_frames = (t, known)
        if shares is not None:
            shares.check(views=V, frames=F)
            of_frames = tuple(shares.own(value, FRAMES) for value in of_frames)
            x, t, known, known_frames = (shares.own(value, VIEWS) for value in (x, t, known, known_frames))
        tokens, noise = base.embed(x, known, known_frames), base.noise_condition(t, known)
        text = base.text_tokens(cond.get("text"), B)
        views = cond.get("view_order", torch.arange(V, device=x.device).expand(B, V))
        frames = cond.get("frame_order", torch.arange(F, device=x.device).expand(B, F))
        if variant == "fused":
            context = self._fused_context(noise, views, frames, size, text)
            blocks = [partial(block, attend=attend_fused(V, F)) for block in self._blocks()]
            tokens = rearrange(tokens, "b v f p d -> b (v f) p d")
            for block in blocks:
                tokens = block(tokens, context)
            velocity = base.pixels(tokens, context.condition, size)
            velocity = rearrange(velocity, "b (v f) c h w -> b v f c h w", v=V)
            return velocity, velocity
        rows = base.row_context(noise, frames, size, text)
        columns = base.column_context(noise if shares is None else base.noise_condition(*of_frames), views, size, text)
        if variant == "sequential":
            time_blocks = [
                partial(block, attention=own) for block, own in zip(self._blocks(), self.time_attention, strict=True)
            ]
            time = view = sequential(time_blocks, self._blocks(), tokens, rows, columns, shares)
        else:
            time, view = two_streams(self._blocks(), self.synchronisation, tokens, rows, columns, noise, shares)
        kinds = base.embed_context.weight
        return base.pixels(time, noise + kinds[DYNAMIC], size), base.pixels(view, noise + kinds[FREEZE_TIME], size)

    def _fused_context(
        self, noise: Tensor, views: Tensor, frames: Tensor, size: tuple[int, int], text: Tensor | None
    ) -> BlockContext:
        """One sequence of V F frames at places v + f, told that it is half of either kind of video."""
        order = rearrange(views[:, :, None] + frames[:, None, :], "b v f -> b (v f)")
        noise = rearrange(noise, "b v f d -> b (v f) d")
        context = self.base.context(noise, DYNAMIC, order, size, text)
        return replace(context, condition=noise + self.base.embed_context.weight.mean(dim=0))
