"""Softmax attention by a named backend; `reference` is slow and readable, the others must equal it."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from viewtime.errors import UserError, require

Backend = Literal["sdpa", "xformers", "reference"]


def attend(query: Tensor, key: Tensor, value: Tensor, backend: Backend = "sdpa") -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v.

    Args:
        query, key, value: [N, heads, L, D].
        backend: `sdpa` (PyTorch), `xformers` (needs CUDA), or `reference`.

    Returns:
        [N, heads, L, D].

    Raises:
        UserError: unknown backend, or xformers is not installed.
    """
    if backend == "sdpa":
        return F.scaled_dot_product_attention(query, key, value)
    if backend == "reference":
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores.softmax(dim=-1) @ value
    if backend == "xformers":
        ops = require("xformers.ops", "cuda")
        swapped = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return ops.memory_efficient_attention(*swapped).transpose(1, 2)
    raise UserError(f"no attention backend {backend!r}; one of: {', '.join(get_args(Backend))}")
