"""The two-stream architecture (Eq. 4) over any list of blocks, and sequential interleaving (Eq. 5) beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from viewtime.model.shares import GridShares

VIEWS, FRAMES = 1, 2  # axes of [B, V, F, ...]

# block(tokens [N, T, P, D], context) -> tokens: x + phi_l(x; c)
Block = Callable[[Tensor, Any], Tensor]


def along_time(block: Block, tokens: Tensor, context: Any) -> Tensor:
    """Apply a block to every row (one view over time): tokens [B, V, F, P, D] -> same."""
    B = tokens.shape[0]
    rows = block(rearrange(tokens, "b v f p d -> (b v) f p d"), context)
    return rearrange(rows, "(b v) f p d -> b v f p d", b=B)


def along_views(block: Block, tokens: Tensor, context: Any, shares: GridShares | None = None) -> Tensor:
    """Apply a block to every column (one instant over views): tokens [B, V, F, P, D] -> same.

    Args:
        shares: the tokens are of this process's views, the context of its frames.
    """

    def columns(tokens: Tensor) -> Tensor:
        mixed = block(rearrange(tokens, "b v f p d -> (b f) v p d"), context)
        return rearrange(mixed, "(b f) v p d -> b v f p d", b=tokens.shape[0])

    return columns(tokens) if shares is None else shares.through(columns, tokens, VIEWS, FRAMES)


def two_streams(
    blocks: Iterable[Block],
    synchronisation: Iterable[nn.Module],
    tokens: Tensor,
    row_context: Any,
    column_context: Any,
    condition: Tensor,
    shares: GridShares | None = None,
) -> tuple[Tensor, Tensor]:
    """Split the tokens into two streams, update both with the same blocks, synchronise after each block.

    Args:
        blocks: pre-trained blocks, used for rows and columns alike.
        synchronisation: one layer per block: (time, view, condition) -> (time, view).
        tokens: [B, V, F, P, D].
        row_context: what the blocks are told about rows (N = B V videos of F frames).
        column_context: what the blocks are told about columns (N = B F videos of V frames).
        condition: [B, V, F, D], embedding of the noise level of each cell.
        shares: tokens, rows and condition are of this process's views, the columns of its frames.

    Returns:
        (time stream, view stream), each [B, V, F, P, D].
    """
    time = view = tokens
    for block, synchronise in zip(blocks, synchronisation, strict=True):
        y_time = along_time(block, time, row_context)
        y_view = along_views(block, view, column_context, shares)
        time, view = synchronise(y_time, y_view, condition)
    return time, view


def sequential(
    time_blocks: Iterable[Block],
    view_blocks: Iterable[Block],
    tokens: Tensor,
    row_context: Any,
    column_context: Any,
    shares: GridShares | None = None,
) -> Tensor:
    """Alternate updates along time and along views (Eq. 5); tokens [B, V, F, P, D] -> same; arguments as above."""
    for time_block, view_block in zip(time_blocks, view_blocks, strict=True):
        tokens = along_time(time_block, tokens, row_context)
        tokens = along_views(view_block, tokens, column_context, shares)
    return tokens
