"""Which voxels can hold the object at each instant: the vote of the masks, later the density that was learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as nnF
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.log import log
from viewtime.recon.fitting.hull import sample_masks, view_pixels
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.splats import Viewpoints

from .marching import Block

COARSE = 24  # voxels along the side in the first look; a fine voxel is only tried inside an occupied coarse one
EMPTY = 1.0  # density per world unit that is not worth a sample: a hundredth of a voxel's light
NEEDED_COVERAGE = 0.97
NEIGHBOURHOOD = 3


def widen(masks: Tensor, pixels: float) -> Tensor:
    """[B, H, W] masks grown by a whole number of pixels in every direction."""
    radius = max(0, int(pixels + 0.999))
    return nnF.max_pool2d(masks[:, None], 2 * radius + 1, stride=1, padding=radius)[:, 0]


def dissent(points: Tensor, masks: Tensor, views: Viewpoints) -> tuple[Tensor, Tensor]:
    """How many views see each point [N] outside their mask, and how many see it at all."""
    against = torch.zeros(len(points), dtype=torch.int16)
    seen = torch.zeros_like(against)
    limit = torch.tensor([views.width, views.height])
    for b in range(len(views)):
        pixels = view_pixels(points, views[b : b + 1])
        inside = ((pixels[0] >= 0) & (pixels[0] < limit)).all(dim=1)
        against += (inside & (sample_masks(masks[b : b + 1], pixels)[0] < 0.5)).short()
        seen += inside.short()
    return against, seen


def lattice(low: Tensor, side: float, resolution: int) -> Tensor:
    """Voxel centres [G³, 3] of a cube, x fastest."""
    axis = (torch.arange(resolution, device=low.device) + 0.5) * (side / resolution)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return low + torch.stack([x, y, z], dim=-1).reshape(-1, 3)


class Occupancy:
    """Voxels of all F frames.

    Attributes:
        possible: [F, G, G, G] bool (z, y, x), where the masks allow the object; the density never leaves it.
        block: what rays march through.
        tolerance: number of views that may disagree about a voxel.
    """

    def __init__(self, possible: Tensor, low: Tensor, side: float, tolerance: int) -> None:
        self.possible, self.tolerance = possible, tolerance
        self.estimate = torch.zeros(possible.shape, device=possible.device)
        self.block = Block(possible.to(torch.uint8), torch.zeros_like(self.estimate), low, side)

    @staticmethod
    def of(targets: Targets, resolution: int, margin: float) -> Occupancy:
        """Vote of the masks at every frame; the number of views that may dissent rises until the masks are explained.

        Raises:
            UserError: no tolerance below half the views leaves a voxel.
        """
        V, F, _, _ = targets.shape
        for tolerance in range(max(1, V // 2)):
            low, side = _bounds(targets, tolerance)
            if side <= 0:
                continue
            frames = [_vote(targets, f, low, side, resolution, margin, tolerance) for f in range(F)]
            occupancy = Occupancy(torch.stack(frames), low, side, tolerance)
            coverage = occupancy.coverage(targets)
            if coverage >= NEEDED_COVERAGE or (tolerance + 1 >= max(1, V // 2) and coverage > 0.5):
                if tolerance or coverage < NEEDED_COVERAGE:
                    log.warning(
                        "the views disagree: what all but %d of %d of them have in common explains %.0f %% of the "
                        "masks; the cameras may be wrong, or try --imperfect.offset",
                        tolerance, V, 100 * coverage,
                    )  # fmt: skip
                return occupancy
        raise UserError(
            f"the masks of the {V} views have too little volume in common: cameras and pictures do not belong together"
        )

    def coverage(self, targets: Targets) -> float:
        """Mean share of the mask pixels on which some voxel projects, over the first, middle and last frame."""
        _, F, H, W = targets.shape
        centres = lattice(self.block.low, self.block.side, self.block.resolution)
        shares = []
        for frame in sorted({0, F // 2, F - 1}):
            points = centres[self.possible[frame].flatten()]
            for view in targets.usable[:, frame].nonzero().flatten():
                cell = targets.cell(view[None], torch.tensor([frame]))
                pixels = view_pixels(points, targets.views[cell])[0].floor().long()
                kept = pixels[(pixels >= 0).all(1) & (pixels[:, 0] < W) & (pixels[:, 1] < H)]
                drawn = torch.zeros(H, W)
                drawn[kept[:, 1], kept[:, 0]] = 1
                radius = self.block.side / self.block.resolution * float(targets.views.focal.max())
                mask = targets.images[view, frame, 3] > 0.5
                shares.append(float((widen(drawn[None], radius)[0][mask] > 0).float().mean()))
        return sum(shares) / max(1, len(shares))

    @torch.no_grad()
    def update(self, density: Callable[[Tensor, Tensor], Tensor], frames: range, generator: torch.Generator) -> None:
        """Look at the density in every possible voxel of some frames.

        Args:
            density: (points [M, 3] world, frame number) -> [M] per world unit.
        """
        G, block = self.block.resolution, self.block
        centres = lattice(block.low, block.side, G)
        for frame in frames:
            place = self.possible[frame].flatten().nonzero().flatten()
            shift = torch.rand(len(place), 3, generator=generator).to(place.device) - 0.5
            found = density(centres[place] + shift * (block.side / G), torch.tensor(frame))
            before = self.estimate[frame].view(-1)
            before[place] = torch.lerp(before[place], found, 0.5) if bool(before.any()) else found
            around = nnF.max_pool3d(self.estimate[frame][None, None], NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2)[0, 0]
            least = -nnF.max_pool3d(-self.estimate[frame][None, None], NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2)[0, 0]
            block.occupied[frame] = (self.possible[frame] & (around > EMPTY)).to(torch.uint8)
            block.density[frame] = least.clamp(min=0)

    def to(self, device: torch.device) -> Occupancy:
        """The same on another device."""
        b = self.block
        moved = Occupancy(self.possible.to(device), b.low.to(device), b.side, self.tolerance)
        moved.restore(self.state())
        return moved

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs beside the masks."""
        return {"estimate": self.estimate, "occupied": self.block.occupied, "density": self.block.density}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state."""
        self.estimate.copy_(state["estimate"])
        self.block.occupied.copy_(state["occupied"])
        self.block.density.copy_(state["density"])


def _frame(targets: Targets, frame: int) -> tuple[Tensor, Viewpoints]:
    usable = targets.usable[:, frame].nonzero().flatten()
    cells = targets.cell(usable, torch.full_like(usable, frame))
    return targets.images[usable, frame, 3], targets.views[cells]


def _allowed(points: Tensor, masks: Tensor, views: Viewpoints, tolerance: int) -> Tensor:
    against, seen = dissent(points, masks, views)
    return (against <= min(tolerance, max(0, len(views) - 2))) & (seen >= max(1, (len(views) + 1) // 2))


def _pixels_of(spacing: float, views: Viewpoints) -> float:
    """Half a voxel's diagonal in pixels, at the distance of the world's origin."""
    depth = views.world_to_camera[:, :3, 3].norm(dim=1).clamp(min=1e-3)
    return 0.87 * spacing * float((views.focal / depth).max())


def _bounds(targets: Targets, tolerance: int) -> tuple[Tensor, float]:
    """Cube around what the widened masks allow at any frame; side 0 where that is nothing."""
    resolution, side = 40, 2 * targets.reach
    low = torch.full((3,), -targets.reach)
    points = lattice(low, side, resolution)
    found = torch.zeros(len(points), dtype=torch.bool)
    for frame in range(targets.shape[1]):
        masks, views = _frame(targets, frame)
        found |= _allowed(points, widen(masks, _pixels_of(side / resolution, views)), views, tolerance)
    if not found.any():
        return low, 0.0
    half = side / resolution / 2
    first, last = points[found].amin(0) - half, points[found].amax(0) + half
    edge = float((last - first).max())
    return (first + last - edge) / 2, edge


def _vote(
    targets: Targets, frame: int, low: Tensor, side: float, resolution: int, margin: float, tolerance: int
) -> Tensor:
    """[G, G, G] bool (z, y, x): voxels some part of which may belong to the object."""
    masks, views = _frame(targets, frame)
    children = max(1, round(resolution / COARSE))
    coarse = -(-resolution // children)
    wide = side * coarse * children / resolution
    grown = widen(masks, _pixels_of(wide / coarse, views) + margin)
    rough = _allowed(lattice(low, wide, coarse), grown, views, tolerance).view(coarse, coarse, coarse)
    fine = rearrange(rough[..., None].expand(-1, -1, -1, children**3),
                     "z y x (c b a) -> (z c) (y b) (x a)", a=children, b=children)  # fmt: skip
    fine = fine[:resolution, :resolution, :resolution].contiguous()
    place = fine.flatten().nonzero().flatten()
    grown = widen(masks, _pixels_of(side / resolution, views) + margin)
    kept = _allowed(lattice(low, side, resolution)[place], grown, views, tolerance)
    result = torch.zeros(resolution**3, dtype=torch.bool)
    result[place[kept]] = True
    return result.view(resolution, resolution, resolution)
