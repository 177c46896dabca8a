"""Fused view-time attention: a token attends to its frame, its instant and its view in one softmax.

The follow-up of 4Real-Video replaces the two streams by this attention pattern inside the pre-trained blocks, with
no added parameters. A rotary position v + f along the video keeps every relative position in the range the base
model knows: within a row it differs by the number of frames, within a column by the number of views, and no other
pairs meet.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

from viewtime.model.attention import Backend
from viewtime.model.attention import attend as attend_sequences
from viewtime.model.four_real.block import Attend


def attend_fused_reference(views: int, frames: int) -> Attend:
    """The definition: dense attention over the grid under a mask. Memory grows with (V F P)^2."""

    def attend(q: Tensor, k: Tensor, v: Tensor, backend: Backend = "sdpa") -> Tensor:
        P = q.shape[2]
        view = torch.arange(views * frames, device=q.device) // frames
        frame = torch.arange(views * frames, device=q.device) % frames
        cells = (view[:, None] == view) | (frame[:, None] == frame)
        mask = repeat(cells, "a b -> (a p) (b r)", p=P, r=P)
        q, k, v = (rearrange(part, "n t p h d -> n h (t p) d") for part in (q, k, v))
        mixed = attend_sequences(q, k, v, backend, mask)
        return rearrange(mixed, "n h (t p) d -> n t p h d", p=P)

    return attend


def attend_fused(views: int, frames: int) -> Attend:
    """The same sums row by row: each cell's V + F - 1 cells of keys are gathered, each cell once."""

    def attend(q: Tensor, k: Tensor, v: Tensor, backend: Backend = "sdpa") -> Tensor:
        q, k, v = (rearrange(part, "n (v f) p h d -> n v f h p d", v=views) for part in (q, k, v))
        rows = [
            attend_sequences(
                rearrange(q[:, row], "n f h p d -> (n f) h p d"), _cells_of(k, row), _cells_of(v, row), backend
            )
            for row in range(views)
        ]
        return rearrange(torch.stack(rows), "v (n f) h p d -> n (v f) p h d", f=frames)

    def _cells_of(x: Tensor, row: int) -> Tensor:
        """x [n, v, f, h, p, d] -> [(n f), h, (f + v - 1) p, d]: the row's frames, and the instant's other views."""
        own = repeat(x[:, row], "n g h p d -> n f h (g p) d", f=frames)
        others = torch.cat([x[:, :row], x[:, row + 1 :]], dim=1)
        both = torch.cat([own, rearrange(others, "n v f h p d -> n f h (v p) d")], dim=3)
        return rearrange(both, "n f h l d -> (n f) h l d")

    return attend
