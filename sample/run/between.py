"""Frames between two sampled ones, by no diffusion model: what SV4D's sampling is compared with (table 6, figure 8).

The paper takes a trained network (AMT) whose weights are not here; "flow" is the same idea with a computed flow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor

from viewtime.sample.plan.plan import Window

from .store import CellStore

WINDOW = 7  # pixels that share a displacement, at every scale
ROUNDS = 6  # of refinement at each scale
SMALLEST = 12  # pixels of the coarsest scale's shorter side
DAMPING = 1e-4  # of the normal equations: flat places do not move


def interpolated(window: Window, store: CellStore) -> Tensor:
    """The window's cells [V, F, C, H, W]: its first and last frame as they are in the store, the rest between them."""
    last = len(window.frames) - 1
    rows = []
    for view in window.views:
        first_cell, last_cell = store.read([(view, window.frames[0]), (view, window.frames[last])], window)
        times = torch.linspace(0, 1, last + 1)[1:-1]
        make = by_flow if window.stage == "flow" else linear
        rows.append(torch.cat([first_cell[None], make(first_cell, last_cell, times), last_cell[None]]))
    cells = torch.stack(rows)
    inner = {(view, frame) for view in window.views for frame in window.frames} - window.sampled
    for row, view in enumerate(window.views):
        for column, frame in enumerate(window.frames):
            if (view, frame) in inner and 0 < column < last:  # the input view's frames are given
                cells[row, column] = store.read([(view, frame)], window)[0]
    return cells


def premultiplied(cell: Tensor) -> Tensor:
    """Colours times alpha, where there is alpha; [..., C, H, W]."""
    if cell.shape[-3] < 4:
        return cell
    return torch.cat([cell[..., :3, :, :] * cell[..., 3:, :, :], cell[..., 3:, :, :]], dim=-3)


def straight(cell: Tensor) -> Tensor:
    """The inverse of `premultiplied`."""
    if cell.shape[-3] < 4:
        return cell
    alpha = cell[..., 3:, :, :]
    return torch.cat([cell[..., :3, :, :] / alpha.clamp_min(1e-6) * (alpha > 0), alpha], dim=-3)


def linear(first: Tensor, last: Tensor, times: Tensor) -> Tensor:
    """Cross-fades [N, C, H, W] of two cells [C, H, W] at `times` [N], 0 the first and 1 the last."""
    first, last = premultiplied(first), premultiplied(last)
    return straight(torch.stack([torch.lerp(first, last, time) for time in times.tolist()]))


def by_flow(first: Tensor, last: Tensor, times: Tensor) -> Tensor:
    """As `linear`, of cells moved along the optical flow: Super SloMo's flows to a time between (its eq. 4)."""
    ends = torch.stack([premultiplied(first), premultiplied(last)]).float()
    grey = ends.mean(1, keepdim=True)
    forth, back = optical_flow(grey[:1], grey[1:]), optical_flow(grey[1:], grey[:1])
    made = []
    for time in times.tolist():
        to_first = -(1 - time) * time * forth + time**2 * back
        to_last = (1 - time) ** 2 * forth - time * (1 - time) * back
        made.append(torch.lerp(warped(ends[:1], to_first), warped(ends[1:], to_last), time)[0])
    return straight(torch.stack(made))


def warped(image: Tensor, flow: Tensor) -> Tensor:
    """`image` [1, C, H, W] read at each pixel's place plus `flow` [1, 2, H, W] (x, y in pixels); bilinear."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y])[None] + flow
    sizes = torch.tensor([width, height]).view(1, 2, 1, 1)
    grid = rearrange((2 * places + 1) / sizes - 1, "b xy h w -> b h w xy")
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


def optical_flow(source: Tensor, target: Tensor) -> Tensor:
    """[1, 2, H, W] with target(p + flow) = source(p), pixels: Lucas and Kanade's, from coarse to fine.

    Args:
        source, target: grey, [1, 1, H, W].
    """
    pyramid = [(source, target)]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * SMALLEST:
        pyramid.append(tuple(functional.avg_pool2d(image, 2) for image in pyramid[-1]))  # type: ignore[arg-type]
    flow = torch.zeros(1, 2, *pyramid[-1][0].shape[-2:])
    for fixed, moved in reversed(pyramid):
        size = fixed.shape[-2:]
        if flow.shape[-2:] != size:
            scale = torch.tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(1, 2, 1, 1)
            flow = functional.interpolate(flow, size, mode="bilinear", align_corners=False) * scale
        for _ in range(ROUNDS):
            flow = flow + _step(fixed, warped(moved, flow))
    return flow


def _step(fixed: Tensor, moved: Tensor) -> Tensor:
    """The displacement of each window that lessens its squared difference, by the normal equations."""
    dy, dx = torch.gradient(moved[0, 0])
    error = (fixed - moved)[0, 0]
    sums = functional.avg_pool2d(
        torch.stack([dx * dx, dx * dy, dy * dy, dx * error, dy * error])[None], WINDOW, 1, WINDOW // 2
    )[0]
    xx, xy, yy, xe, ye = sums
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy
    step = torch.stack([(yy * xe - xy * ye) / determinant, (xx * ye - xy * xe) / determinant])[None]
    return step.clamp(-1, 1)
