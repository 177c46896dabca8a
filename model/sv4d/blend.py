"""Learned blend of a spatial and a temporal branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Blend(nn.Module):
    """a spatial + (1 - a) temporal with a = sigmoid(logit); a = 1 where a cell is a still image.

    The image decoder's temporal twin blends the other way round: see `viewtime.model.vae.decoder`.
    """

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))

    def forward(self, spatial: Tensor, temporal: Tensor, image_only: Tensor | None = None) -> Tensor:
        """Tensors of one shape; image_only: bool, broadcasts to that shape."""
        share = self.logit.sigmoid().to(spatial.dtype)
        if image_only is not None:
            share = torch.where(image_only, torch.ones_like(share), share)
        return torch.lerp(temporal, spatial, share)
