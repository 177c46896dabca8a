"""Softmax attention by a named backend; `reference` is slow and readable, the others must equal it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.errors import UserError, require

Backend = Literal["sdpa", "xformers", "reference"]

LARGEST_LAUNCH = 32768
"""Sequences given to a kernel at once. FlashAttention and xformers put one on each of at most 65,535 rows of a launch,
which a window of SV4D exceeds (one sequence per pixel and view or frame); the published code splits here too."""


def attend(query: Tensor, key: Tensor, value: Tensor, backend: Backend = "sdpa", mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v, for any number of sequences N.

    Args:
        query, key, value: [N, heads, L, D].
        backend: `sdpa` (PyTorch), `xformers` (needs CUDA), or `reference`.
        mask: bool [L, L], what may be seen; not with `xformers`.

    Returns:
        [N, heads, L, D].

    Raises:
        UserError: unknown backend, or xformers is not installed.
    """
    if len(query) <= LARGEST_LAUNCH:
        return _attend(query, key, value, backend, mask)
    parts = zip(*(tensor.split(LARGEST_LAUNCH) for tensor in (query, key, value)))
    return torch.cat([_attend(q, k, v, backend, mask) for q, k, v in parts])


def _attend(query: Tensor, key: Tensor, value: Tensor, backend: Backend, mask: Tensor | None) -> Tensor:
    if backend == "sdpa":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    if backend == "reference":
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1) @ value
    if backend == "xformers":
        assert mask is None, "masks are for the slow references"
        ops = require("xformers.ops", "cuda")
        swapped = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return ops.memory_efficient_attention(*swapped).transpose(1, 2)
    raise UserError(f"no attention backend {backend!r}; one of: {', '.join(get_args(Backend))}")


def use_backend(network: nn.Module, backend: Backend) -> None:
    """Have every attention layer of a network, whichever it is, use a backend: those with an attribute `backend`."""
    for module in network.modules():
        if hasattr(module, "backend"):
            module.backend = backend  # type: ignore[assignment]
