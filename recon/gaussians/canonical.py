"""The canonical Gaussians and how they start."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from .fused import covariance_matrices, is_fused


class Gaussians(nn.Module):
    """N Gaussians at the canonical instant.

    Attributes:
        position: [N, 3] world. log_scale: [N, 1] (isotropic) or [N, 3]. opacity_logit: [N]. colour: [N, 3], linear
            parameters of the displayed RGB, not bounded while fitting. quaternion: [N, 4] (w, x, y, z), anisotropic
            only.
        moving: [N] bool, which of them the motion carries; None: all.
        view_offset: [N, V, 3] world, where each view sees them beside their place (Δp_v of 4Real-Video's Eq. 11), not
            learned; None: nowhere.
    """

    moving: Tensor | None
    view_offset: Tensor | None

    def __init__(self, position: Tensor, scale: Tensor, colour: Tensor, isotropic: bool, opacity: float = 0.73) -> None:
        super().__init__()
        count = position.shape[0]
        self.position = nn.Parameter(position.float().clone())
        self.log_scale = nn.Parameter(scale.log()[:, None].repeat(1, 1 if isotropic else 3).float())
        self.opacity_logit = nn.Parameter(torch.full((count,), torch.logit(torch.tensor(opacity)).item()))
        self.colour = nn.Parameter(colour.float().clone())
        if not isotropic:
            self.quaternion = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1))
        self.register_buffer("moving", None)
        self.register_buffer("view_offset", None)

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
        if is_fused(self.log_scale):
            return covariance_matrices(self.quaternion, self.log_scale)
        axes = rotation_from_quaternion(self.quaternion) * self.log_scale.exp()[:, None]
        return (axes[:, :, None] * axes[:, None]).sum(dim=-1)  # torch's batched product takes longer for 3 x 3

    def select(self, parents: Tensor) -> None:
        """What is not learned follows when the Gaussians become `old[parents]`."""
        for name, value in list(self.named_buffers()):
            setattr(self, name, value[parents])

    def opacity(self) -> Tensor:
        """[N] in (0, 1)."""
        return self.opacity_logit.sigmoid()


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """(w, x, y, z), any length, [..., 4] -> [..., 3, 3]."""
    w, v = quaternion[..., :1, None], quaternion[..., 1:]
    squares = quaternion.square()[..., None]
    along = squares.sum(dim=-2, keepdim=True)
    identity = torch.eye(3, device=quaternion.device, dtype=quaternion.dtype)
    turned = (2 * squares[..., :1, :] - along) * identity + 2 * (w * cross_matrix(v) + v[..., None] * v[..., None, :])
    return turned / along


def cross_matrix(vector: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3], whose product with another vector is the cross product."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def spacing_scale(position: Tensor, factor: float = 0.55) -> Tensor:
    """Sizes [N] from the mean distance to the three nearest neighbours."""
    distance, _ = cKDTree(position.numpy()).query(position.numpy(), k=min(4, len(position)))
    mean = torch.from_numpy(distance[:, 1:]).float().mean(dim=1)
    return factor * mean.clamp(min=1e-4, max=3 * float(mean.median()))
