"""Where a field is worth a sample: the density's running maximum on a voxel grid, over time too (nerfacc's rules)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from viewtime.recon.nerf.marching import Block
from viewtime.recon.nerf.occupancy import lattice

from ..guidance.base import Draws

DECAY = 0.95
THRESHOLD = 0.01  # of the light that a sample stops
WARM_UP = 256  # steps in which every voxel is looked at
LOW, SIDE = -1.0, 2.0


class RunningOccupancy(nn.Module):
    """Voxels over [-1, 1]³ that hold the object at any instant.

    Attributes:
        estimate: [G³], x fastest: density times step, the largest seen, fading.
    """

    def __init__(self, resolution: int, step: float) -> None:
        super().__init__()
        self.resolution, self.step = resolution, step
        self.estimate: Tensor
        self.occupied: Tensor
        self.register_buffer("estimate", torch.zeros(resolution**3))
        self.register_buffer("occupied", torch.ones(resolution**3, dtype=torch.uint8))

    @torch.no_grad()
    def update(self, density: Callable[[Tensor, Tensor], Tensor], times: Tensor, step: int, draws: Draws) -> None:
        """Look at the density of some voxels, all of them in the first steps.

        Args:
            density: (points [M, 3], instants [M]) -> [M] per world unit.
            times: [K] instants, of which the densest counts. step: of the stage.
        """
        device, count = self.estimate.device, len(self.estimate)
        if step < WARM_UP:
            place = torch.arange(count, device=device)
        else:
            drawn = (draws.uniform("voxels", count // 4) * count).long().to(device)
            place = torch.cat([drawn, self.occupied.nonzero().flatten()])
        centres = lattice(torch.full((3,), LOW), SIDE, self.resolution).to(device)[place]
        shift = draws.uniform("voxel_shift", 3 * len(place)).reshape(-1, 3).float().to(device) - 0.5
        points = centres + shift * (SIDE / self.resolution)
        found = torch.stack([density(points, time.to(points).expand(len(points))) for time in times]).amax(dim=0)
        looked = torch.zeros_like(self.estimate).scatter_reduce(0, place, found * self.step, "amax")
        seen = torch.zeros_like(self.occupied).index_fill(0, place, 1).bool()
        self.estimate.copy_(torch.where(seen, torch.maximum(DECAY * self.estimate, looked), self.estimate))
        self.occupied.copy_((self.estimate > self.estimate.mean().clamp(max=THRESHOLD)).to(torch.uint8))

    def block(self) -> Block:
        """For `march`: one set of voxels, and nothing known to be opaque."""
        G = self.resolution
        occupied = self.occupied.view(1, G, G, G)
        return Block(occupied, torch.zeros_like(occupied, dtype=torch.float32), torch.full((3,), LOW), SIDE)

    @property
    def least(self) -> float:
        """The share of light below which nerfacc never leaves a sample out: the mean of the estimate."""
        return float(self.estimate.mean())
