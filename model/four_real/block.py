"""The transformer block of the base model: self-attention over a video, attention to text, MLP, modulated by noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import Backend
from viewtime.model.attention import attend as attend_sequences
from viewtime.model.four_real.positions import rotate
from viewtime.model.full_precision import FullPrecisionLinear

# (q, k, v), each [N, T, P, heads, d], and the backend -> [N, T, P, heads, d]
Attend = Callable[[Tensor, Tensor, Tensor, Backend], Tensor]


@dataclass(frozen=True)
class BlockContext:
    """What a block is told beside the tokens, "c" in Eq. 1.

    Attributes:
        condition: [N, T, D], embedding of each frame's noise level plus the kind of video, float32.
        angles: [N, T, P, head_dim / 2], rotary angles of the tokens' ids.
        text: [N, L, D] projected text tokens, or None in a model without text.
    """

    condition: Tensor
    angles: Tensor
    text: Tensor | None = None


def attend_video(q: Tensor, k: Tensor, v: Tensor, backend: Backend = "sdpa") -> Tensor:
    """Every token of a video attends to all tokens of that video; [N, T, P, heads, d]."""
    T = q.shape[1]
    q, k, v = (rearrange(part, "n t p h d -> n h (t p) d") for part in (q, k, v))
    return rearrange(attend_sequences(q, k, v, backend), "n h (t p) d -> n t p h d", t=T)


class SelfAttention(nn.Module):
    """Self-attention with normalised, rotated queries and keys; [N, T, P, D] -> [N, T, P, D]."""

    def __init__(self, width: int, head_dim: int, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.head_dim, self.backend = head_dim, backend
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(head_dim), nn.RMSNorm(head_dim)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: Tensor, attend: Attend = attend_video) -> Tensor:
        """See the class; `attend` decides which tokens see each other."""
        q, k, v = rearrange(self.qkv(x), "n t p (s h d) -> s n t p h d", s=3, d=self.head_dim)
        q, k = rotate(self.norm_q(q).to(v), angles), rotate(self.norm_k(k).to(v), angles)
        return self.out(rearrange(attend(q, k, v, self.backend), "n t p h d -> n t p (h d)"))


class TextAttention(nn.Module):
    """Attention from video tokens [N, T, P, D] to text tokens [N, L, D]; starts at zero effect."""

    def __init__(self, width: int, head_dim: int, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.head_dim, self.backend = head_dim, backend
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(head_dim), nn.RMSNorm(head_dim)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """See the class."""
        q = rearrange(self.q(x), "n t p (h d) -> n h (t p) d", d=self.head_dim)
        k, v = rearrange(self.kv(text), "n l (s h d) -> s n h l d", s=2, d=self.head_dim)
        mixed = attend_sequences(self.norm_q(q).to(v), self.norm_k(k).to(v), v, self.backend)
        return self.out(rearrange(mixed, "n h (t p) d -> n t p (h d)", t=x.shape[1]))


class VideoBlock(nn.Module):
    """One DiT block; phi_l of Eq. 1 with its skip connections, so it returns x + phi_l(x; c).

    Scales, shifts and gates are linear in the condition of each frame (adaLN, DiT section 3.2). The gates of
    attention and MLP start at zero, so a fresh block is the identity.
    """

    def __init__(self, width: int, head_dim: int, mlp_ratio: int, with_text: bool) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, head_dim)
        self.norm_text = nn.LayerNorm(width) if with_text else None
        self.text_attention = TextAttention(width, head_dim) if with_text else None
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp_in, self.mlp_out = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)
        self.modulation = FullPrecisionLinear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Tensor,
        context: BlockContext,
        attend: Attend = attend_video,
        attention: SelfAttention | None = None,
    ) -> Tensor:
        """x [N, T, P, D] -> [N, T, P, D].

        Args:
            attend: which tokens see each other; by default all tokens of a video.
            attention: weights used instead of the block's own self-attention.
        """
        modulation = self.modulation(F.silu(context.condition)).to(x.dtype)[:, :, None]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        h = self.norm_attention(x) * (1 + scale_a) + shift_a
        x = x + gate_a * (attention or self.attention)(h, context.angles, attend)
        if self.text_attention is not None and self.norm_text is not None and context.text is not None:
            x = x + self.text_attention(self.norm_text(x), context.text)
        h = self.norm_mlp(x) * (1 + scale_m) + shift_m
        return x + gate_m * self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh"))
