"""The plain renderer: every formula as it stands in the paper, slow, on any device, in any precision."""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from torch import Tensor

from .splats import MAXIMUM_ALPHA, MINIMUM_ALPHA, MINIMUM_TRANSMITTANCE, NEAR, Splats

ROWS_AT_ONCE = 16


def composite_reference(splats: Splats, height: int, width: int) -> Tensor:
    """Front-to-back alpha compositing; [B, C + 1, H, W], premultiplied features and, last, the accumulated alpha.

    Each Gaussian weighs alpha = min(0.99, opacity · exp(-q/2)) where that is at least 1/255, and nothing elsewhere;
    where less than 1e-4 of the light gets through, what lies behind is left out.
    """
    images = []
    for b in range(splats.mean.shape[0]):
        order = torch.argsort(splats.depth[b].detach(), stable=True)
        order = order[splats.depth[b][order] > NEAR]
        mean, conic, opacity = splats.mean[b][order], splats.conic[b][order], splats.opacity[b][order]
        feature = torch.cat([splats.feature[b][order], torch.ones_like(opacity)[:, None]], dim=-1)
        bands = [
            _band(mean, conic, opacity, feature, first, min(first + ROWS_AT_ONCE, height), width)
            for first in range(0, height, ROWS_AT_ONCE)
        ]
        images.append(torch.cat(bands, dim=1))
    return torch.stack(images)


def _band(mean: Tensor, conic: Tensor, opacity: Tensor, feature: Tensor, first: int, last: int, width: int) -> Tensor:
    """Rows first..last-1 of one image, [C, rows, W]; Gaussians that cannot reach them are left out."""
    a, b, c = conic.detach().unbind(-1)
    reach = 2 * (opacity.detach() / MINIMUM_ALPHA).clamp(min=1).log() * a / (a * c - b * b)
    y = mean.detach()[:, 1]
    near = (y + reach.sqrt() + 1 >= first) & (y - reach.sqrt() - 1 <= last)
    mean, conic, opacity, feature = mean[near], conic[near], opacity[near], feature[near]
    rows = torch.arange(first, last, device=mean.device, dtype=mean.dtype) + 0.5
    columns = torch.arange(width, device=mean.device, dtype=mean.dtype) + 0.5
    dx = rearrange(columns, "w -> 1 1 w") - rearrange(mean[:, 0], "n -> n 1 1")
    dy = rearrange(rows, "h -> 1 h 1") - rearrange(mean[:, 1], "n -> n 1 1")
    a, b, c = (rearrange(value, "n -> n 1 1") for value in conic.unbind(-1))
    alpha = rearrange(opacity, "n -> n 1 1") * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    alpha = torch.where(alpha >= MINIMUM_ALPHA, alpha.clamp(max=MAXIMUM_ALPHA), torch.zeros_like(alpha))
    transmittance = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat([torch.ones_like(transmittance[:1]), transmittance[:-1]])
    before = torch.where(before >= MINIMUM_TRANSMITTANCE, before, torch.zeros_like(before))
    return einsum(before * alpha, feature, "n h w, n c -> c h w")
