"""Transformer blocks on a grid of tokens [B, F, V, S, C] (S positions of the image); only attention moves axes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import Backend, attend
from viewtime.model.sv4d.linear import Linear, add_product, products

ROWS = 1024
"""Tokens that pass an MLP at once on a CPU: their 8 C numbers fit its cache, and the weights are read often enough."""

Group = Literal["space", "view", "frame", "view-space", "raster"]
SEQUENCES = {
    "space": "b f v s (h d) -> (b f v) h s d",
    "view": "b f v s (h d) -> (b f s) h v d",
    "frame": "b f v s (h d) -> (b v s) h f d",
    "view-space": "b f v s (h d) -> (b f) h (v s) d",
}
"""Which tokens share a sequence. `raster` is not among them: see `_raster_sequences`."""
STRIDED = {"view": "v s (h d) -> s h v d", "frame": "f v s (h d) -> (v s) h f d"}
"""Of the groups whose sequences do not lie in a row: the same of one part of the grid, for which no token moves."""


def _sequences(tokens: Tensor, group: Group, head_dim: int) -> Tensor:
    """Tokens [B, F, V, S, C] to sequences [N, heads, L, head_dim]."""
    if group == "raster":
        return _raster_sequences(tokens, head_dim)
    return rearrange(tokens, SEQUENCES[group], d=head_dim)


def _raster_sequences(tokens: Tensor, head_dim: int) -> Tensor:
    """The published SV4D 2.0 grouping: V consecutive tokens in raster order, views one after another."""
    views = tokens.shape[2]
    flat = rearrange(tokens, "b f v s c -> b f (v s) c")
    return rearrange(flat, "b f (g l) (h d) -> (b f g) h l d", l=views, d=head_dim)


def _tokens(sequences: Tensor, group: Group, shape: tuple[int, int, int, int]) -> Tensor:
    """Inverse of `_sequences`; shape is (B, F, V, S)."""
    sizes = dict(zip("bfvs", shape))
    if group == "raster":
        flat = rearrange(sequences, "(b f g) h l d -> b f (g l) (h d)", b=sizes["b"], f=sizes["f"])
        return rearrange(flat, "b f (v s) c -> b f v s c", v=sizes["v"])
    left, right = SEQUENCES[group].split(" -> ")
    return rearrange(sequences, f"{right} -> {left}", **sizes)


def attend_among(
    query: Tensor, key: Tensor, value: Tensor, group: Group, head_dim: int, backend: Backend = "sdpa"
) -> Tensor:
    """Attention among the tokens of each group: all [B, F, V, S, C].

    Views, and frames, of one pixel lie apart in memory. Kernels read them where they are if only one axis numbers the
    sequences; so each frame, or sample, is a call of its own, and only the result is moved. The `reference` moves all.
    """
    B, frames, V, S, _ = query.shape
    if group not in STRIDED or backend == "reference":
        sequences = (_sequences(tokens, group, head_dim) for tokens in (query, key, value))
        return _tokens(attend(*sequences, backend), group, (B, frames, V, S))
    if group == "view":
        parts = zip(*(tokens.flatten(0, 1) for tokens in (query, key, value)))
    else:
        parts = zip(query, key, value)
    left, right = STRIDED[group].replace("(h d)", "h d").split(" -> ")
    mixed = [
        rearrange(
            attend(*(rearrange(tokens, STRIDED[group], d=head_dim) for tokens in part), backend),
            f"{right} -> {left}",
            s=S,
        )
        for part in parts
    ]
    return torch.stack(mixed).reshape(query.shape)


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one group."""

    def __init__(self, channels: int, head_dim: int, group: Group, backend: Backend):
        super().__init__()
        self.head_dim = head_dim
        self.group: Group = group
        self.backend: Backend = backend
        self.query = Linear(channels, channels, bias=False)
        self.key = Linear(channels, channels, bias=False)
        self.value = Linear(channels, channels, bias=False)
        self.out = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, V, S, C] -> [B, F, V, S, C]."""
        return self.out(self.mix(x))

    def mix(self, x: Tensor) -> Tensor:
        """What `out` takes: each token's mixture of values, [B, F, V, S, C]."""
        query, key, value = products(x, (self.query, self.key, self.value))
        return attend_among(query, key, value, self.group, self.head_dim, self.backend)


class OneTokenAttention(nn.Module):
    """Cross-attention to a single context token, whose softmax is 1 whatever the query.

    So `out(value(token))` is exact, and query and key have neither effect nor gradient; they are kept, frozen,
    because the published files hold them. The `reference` backend computes the attention in full.
    """

    def __init__(self, channels: int, context_dim: int, head_dim: int, backend: Backend):
        super().__init__()
        self.head_dim, self.backend = head_dim, backend
        self.query = Linear(channels, channels, bias=False).requires_grad_(False)
        self.key = Linear(context_dim, channels, bias=False).requires_grad_(False)
        self.value = Linear(context_dim, channels, bias=False)
        self.out = Linear(channels, channels)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """x (normalised) [B, F, V, S, C], token [B, 1|F, 1|V, 1|S, context_dim] -> a value that broadcasts to x."""
        if self.backend != "reference":
            return self.out(self.value(token))
        pattern = "b f v s (h d) -> (b f v s) h 1 d"
        everywhere = token.expand(*x.shape[:-1], token.shape[-1])
        query, key, value = (
            rearrange(t, pattern, d=self.head_dim)
            for t in (self.query(x), self.key(everywhere), self.value(everywhere))
        )
        mixed = attend(query, key, value, "reference")
        return self.out(mixed.reshape(x.shape))


class GatedMLP(nn.Module):
    """Expand to value and gate, value * GELU(gate), contract."""

    def __init__(self, channels: int):
        super().__init__()
        self.expand = Linear(channels, 8 * channels)
        self.contract = Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, dim=-1)
        if torch.is_grad_enabled():
            return self.contract(value * F.gelu(gate))
        return self.contract(F.gelu(gate).mul_(value))


class TransformerBlock(nn.Module):
    """Pre-norm residual: [MLP,] self-attention, cross-attention to one token, MLP.

    Args:
        group: which tokens attend to each other.
        mlp_in: a further MLP comes first (view and frame blocks).
    """

    def __init__(
        self, channels: int, context_dim: int, head_dim: int, group: Group, mlp_in: bool, backend: Backend = "sdpa"
    ):
        super().__init__()
        self.backend = backend
        self.norm_mlp_in = nn.LayerNorm(channels) if mlp_in else None
        self.mlp_in = GatedMLP(channels) if mlp_in else None
        self.norm_self = nn.LayerNorm(channels)
        self.self_attention = SelfAttention(channels, head_dim, group, backend)
        self.norm_cross = nn.LayerNorm(channels).requires_grad_(False)
        self.cross_attention = OneTokenAttention(channels, context_dim, head_dim, backend)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = GatedMLP(channels)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """x [B, F, V, S, C], token [B, 1|F, 1|V, 1|S, context_dim] -> [B, F, V, S, C]."""
        if self.norm_mlp_in is not None and self.mlp_in is not None:
            x = _add_rows(x, self.norm_mlp_in, self.mlp_in)
        return _add_rows(self._attend(x, token), self.norm_mlp, self.mlp)

    def _attend(self, x: Tensor, token: Tensor) -> Tensor:
        """Self-attention and cross-attention. Where PyTorch runs operator by operator and without gradients, what does
        not hang on x joins it first, and the product is added as it is written; a compiler's fusing needs less."""
        out = self.self_attention.out
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or self.backend == "reference"
        if plain or not isinstance(out, Linear):
            x = x + self.self_attention(self.norm_self(x))
            query = self.norm_cross(x) if self.backend == "reference" else x
            return x + self.cross_attention(query, token)
        mixed = self.self_attention.mix(self.norm_self(x))
        return add_product(x + (self.cross_attention(x, token) + out.bias), mixed, out.weight)


def _add_rows(x: Tensor, norm: nn.Module, mlp: nn.Module) -> Tensor:
    """x [..., C] + mlp(norm(x)). On a CPU without gradients by pieces of `ROWS` tokens, which stay in its cache."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x + mlp(norm(x))
    total = torch.empty_like(x, memory_format=torch.contiguous_format)
    pieces = (tensor.reshape(-1, x.shape[-1]).split(ROWS) for tensor in (x, total))
    for rows, out in zip(*pieces):
        torch.add(rows, mlp(norm(rows)), out=out)
    return total
