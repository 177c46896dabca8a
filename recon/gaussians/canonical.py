"""The canonical Gaussians and how they start."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn


class Gaussians(nn.Module):
    """N Gaussians at the canonical instant.

    Attributes:
        position: [N, 3] world. log_scale: [N, 1] (isotropic) or [N, 3]. opacity_logit: [N]. colour: [N, 3], linear
            parameters of the displayed RGB, not bounded while fitting. quaternion: [N, 4] (w, x, y, z), anisotropic
            only.
    """

    def __init__(self, position: Tensor, scale: Tensor, colour: Tensor, isotropic: bool, opacity: float = 0.73) -> None:
        super().__init__()
        count = position.shape[0]
        self.position = nn.Parameter(position.float().clone())
        self.log_scale = nn.Parameter(scale.log()[:, None].repeat(1, 1 if isotropic else 3).float())
        self.opacity_logit = nn.Parameter(torch.full((count,), torch.logit(torch.tensor(opacity)).item()))
        self.colour = nn.Parameter(colour.float().clone())
        if not isotropic:
            self.quaternion = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1))

    @property
    def isotropic(self) -> bool:
        """Whether each Gaussian has one size."""
        return self.log_scale.shape[1] == 1

    def __len__(self) -> int:
        return self.position.shape[0]

    def covariance(self) -> Tensor:
        """Variances [N, 1], or matrices [N, 3, 3]."""
        if self.isotropic:
            return (2 * self.log_scale).exp()
        axes = rotation_from_quaternion(self.quaternion) * self.log_scale.exp()[:, None]
        return axes @ axes.transpose(1, 2)

    def opacity(self) -> Tensor:
        """[N] in (0, 1)."""
        return self.opacity_logit.sigmoid()


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """(w, x, y, z), any length, [..., 4] -> [..., 3, 3]."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def spacing_scale(position: Tensor, factor: float = 0.55) -> Tensor:
    """Sizes [N] from the mean distance to the three nearest neighbours."""
    distance, _ = cKDTree(position.numpy()).query(position.numpy(), k=min(4, len(position)))
    mean = torch.from_numpy(distance[:, 1:]).float().mean(dim=1)
    return factor * mean.clamp(min=1e-4, max=3 * float(mean.median()))
