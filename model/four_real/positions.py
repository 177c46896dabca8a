"""Positions as ids beside the tokens, and rotary embedding of queries and keys by those ids."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

# Ids span tens, not thousands: a small base keeps every frequency in use.
THETA = 256.0


def image_ids(height: int, width: int, patch: int, reference_height: int, device: torch.device | None = None) -> Tensor:
    """(y, x) of each token of a frame, [P, 2], in patches of a frame of `reference_height` pixels."""
    scale = reference_height / height
    rows = (torch.arange(height // patch, device=device) + 0.5) * scale
    columns = (torch.arange(width // patch, device=device) + 0.5) * scale
    return rearrange(torch.stack(torch.meshgrid(rows, columns, indexing="ij")), "place h w -> (h w) place")


def token_ids(order: Tensor, image: Tensor) -> Tensor:
    """Ids (place along the video, y, x) of all tokens: order [N, T], image [P, 2] -> [N, T, P, 3]."""
    N, T = order.shape
    P = image.shape[0]
    along = order.to(image)[:, :, None, None].expand(N, T, P, 1)
    return torch.cat([along, image.expand(N, T, P, 2)], dim=-1)


def rotary_angles(ids: Tensor, head_dim: int) -> Tensor:
    """Angles of the rotation of each pair of features: ids [..., 3] -> [..., head_dim / 2], radians.

    A quarter of the pairs turns with the place along the video, three eighths each with y and x.
    """
    pairs = (head_dim // 8, 3 * head_dim // 16, 3 * head_dim // 16)
    parts = []
    for axis, count in enumerate(pairs):
        exponent = torch.arange(count, device=ids.device, dtype=torch.float32) / count
        parts.append(ids[..., axis, None].float() * torch.exp(-math.log(THETA) * exponent))
    return torch.cat(parts, dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of features: x [N, T, P, heads, d], angles [N, T, P, d / 2] -> like x.

    The product of a rotated query and key depends on the difference of their ids only.
    """
    cosine, sine = angles.cos()[..., None, :].to(x), angles.sin()[..., None, :].to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
