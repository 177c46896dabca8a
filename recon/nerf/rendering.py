"""Volume rendering along rays with as many samples each as occupied space gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .marching import Block, march


@dataclass(frozen=True)
class Rays:
    """R rays: origins and unit directions [R, 3], world; slot [R] int64, which of the wanted instants a ray sees."""

    origins: Tensor
    directions: Tensor
    slot: Tensor

    def __getitem__(self, index: slice) -> Rays:
        return Rays(self.origins[index], self.directions[index], self.slot[index])

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True)
class RayPicture:
    """rgb [R, C] premultiplied by alpha [R]; depth [R], distance from the camera times alpha; samples: their number."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    samples: int


def volume_weights(optical: Tensor) -> Tensor:
    """Share of the light that each sample sends to the camera (NeRF, Eq. 3).

    Args:
        optical: [R, S] density times step, near samples first.

    Returns:
        [R, S]; a row sums to 1 − exp(−Σ optical).
    """
    behind = optical.cumsum(dim=1)
    return torch.exp(optical - behind) - torch.exp(-behind)


Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def render_rays(
    field: Field, block: Block, instants: Tensor, rays: Rays, jitter: Tensor, step: float, most: int
) -> RayPicture:
    """Render R rays.

    Args:
        field: (points [M, 3] world, slot [M]) -> density [M] per world unit, colour [M, C].
        instants: int64 [K], the entry of `block` that holds each slot's voxels.
        jitter: [R] in [0, 1): where in a step the first sample lies.
    """
    times, valid = march(
        block, rays.origins.detach(), rays.directions.detach(), instants[rays.slot], jitter, step, most
    )
    return composite(field, rays, times, valid, step)


def composite(field: Field, rays: Rays, times: Tensor, valid: Tensor, step: float) -> RayPicture:
    """What R rays see of a field at samples [R, S]; those that are not `valid` are not evaluated.

    The field's colours may have any number C of channels; each is summed with the same weights.
    """
    R, S = times.shape
    place = valid.flatten().nonzero().flatten()
    ray = place.div(max(1, S), rounding_mode="floor")
    along = times.flatten()[place]
    points = rays.origins[ray] + along[:, None] * rays.directions[ray]
    density, colour = field(points, rays.slot[ray])
    optical = torch.zeros(R * S, device=density.device, dtype=density.dtype).scatter(0, place, density * step)
    weight = volume_weights(optical.view(R, S)).flatten()[place]
    sent = weight[:, None] * torch.cat([colour, torch.ones_like(along)[:, None], along[:, None]], dim=1)
    total = torch.zeros(R, sent.shape[1], device=density.device, dtype=density.dtype).index_add(0, ray, sent)
    return RayPicture(total[:, :-2], total[:, -2], total[:, -1], len(place))
