"""What a fit aims at: the cells of a grid, checked, with masks and pin-hole cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.recon.render.splats import Viewpoints


@dataclass(frozen=True)
class Targets:
    """Pictures to fit.

    Attributes:
        images: [V, F, 4, H, W] float32: RGB on white, then the mask.
        usable: [V, F] bool; cells with NaN pixels or an empty mask are left out.
        views: pin-hole cameras of all cells, view-major.
        reach: half the side of the cube around the origin that every camera sees, world units.
    """

    images: Tensor
    usable: Tensor
    views: Viewpoints
    reach: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(V, F, H, W)."""
        V, F, _, H, W = self.images.shape
        return V, F, H, W

    def cell(self, view: Tensor, frame: Tensor) -> Tensor:
        """Flat index of cells, as `views` counts them."""
        return view * self.images.shape[1] + frame

    def elements(self, cells: int) -> int:
        """Numbers in the pictures of so many cells."""
        _, _, H, W = self.shape
        return cells * 4 * H * W

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(self.images.to(device), self.usable.to(device), self.views.to(device), self.reach)


def mask_from_colour(rgb: Tensor) -> Tensor:
    """[V, F, 3, H, W] on a plain background -> soft mask [V, F, 1, H, W]: distance from the border's median colour."""
    border = torch.cat([rgb[..., 0, :], rgb[..., -1, :], rgb[..., :, 0], rgb[..., :, -1]], dim=-1)
    background = rearrange(border, "v f c n -> c (v f n)").median(dim=1).values
    distance = (rgb - rearrange(background, "c -> 1 1 c 1 1")).abs().amax(dim=2, keepdim=True)
    return ((distance - 0.02) / 0.06).clamp(0, 1)


def make_targets(grid: FrameGrid) -> Targets:
    """Check a grid and bring it into the form that the fits use.

    Raises:
        UserError: no cameras or free ones, fewer than two views, nothing but background, or no usable cell in some
            frame.
    """
    V, F, _, H, W = grid.shape
    orbit = grid.orbit
    if isinstance(orbit, FreeCameras):
        raise UserError(
            "the grid's cameras do not orbit an object; `viewtime reconstruct --preset scene` fits whole pictures "
            "from cameras that stand anywhere"
        )
    if V < 2:
        raise UserError(f"the grid has {V} view; a reconstruction needs at least 2, better 8: sample more views")
    finite = torch.isfinite(grid.frames).flatten(2).all(dim=2)
    frames = torch.nan_to_num(grid.frames, nan=1.0, posinf=1.0, neginf=0.0)
    clean = FrameGrid(frames, grid.known, grid.cameras, grid.fps)
    rgb = clean.rgb()
    alpha = clean.alpha()
    mask = mask_from_colour(rgb) if alpha is None else alpha
    area = (mask > 0.5).flatten(2).sum(dim=2)
    if not (area > 0).any():
        raise UserError("every cell is empty: no pixel differs from the background, so there is nothing to fit")
    usable = finite & (area > 0)
    if not usable.all():
        log.warning(
            "%d of %d cells are left out: %d with NaN pixels, %d with an empty mask",
            int((~usable).sum()), V * F, int((~finite).sum()), int((finite & (area == 0)).sum()),
        )  # fmt: skip
    short = (usable.sum(dim=0) < 2).nonzero().flatten().tolist()
    if short:
        raise UserError(f"frames {short} have fewer than 2 usable views; at least 2 are needed: leave those frames out")
    border = torch.cat([mask[..., 0, :], mask[..., -1, :], mask[..., :, 0], mask[..., :, -1]], dim=-1)
    cut = (border > 0.5).flatten(2).any(dim=2) & usable
    if cut.any():
        log.warning(
            "in %d of %d cells the object touches the picture's edge: what lies outside is guessed",
            int(cut.sum()),
            V * F,
        )
    reach = float((orbit.distance * torch.sin(torch.deg2rad(torch.tensor(orbit.fov_y / 2)))).min())
    reach *= max(1.0, W / H)
    views = Viewpoints.of(orbit, H, W)
    return Targets(torch.cat([rgb, mask], dim=2).contiguous(), usable, views, reach)


def split_views(grid: FrameGrid, held_out: tuple[int, ...]) -> tuple[FrameGrid, FrameGrid | None]:
    """Training views and held-out views.

    Raises:
        UserError: a held-out view that the grid does not have or that is named twice, or none is left to fit.
    """
    V = grid.shape[0]
    wrong = [view for view in held_out if not 0 <= view < V]
    if wrong:
        raise UserError(f"held-out views {wrong}: the grid has views 0 to {V - 1}")
    if len(set(held_out)) < len(held_out):
        raise UserError(f"held-out views {list(held_out)}: each is named once")
    if len(held_out) == V:
        raise UserError(f"held-out views {list(held_out)}: these are all {V} of the grid; leave some to fit")
    if not held_out:
        return grid, None
    return grid[[view for view in range(V) if view not in held_out]], grid[list(held_out)]
