"""What cameras see of the input view's solid: volume rendering that samples only where there is something.

A solid [N, 4, D, R, R] holds colour and density in the frustum of the input camera, so what a camera's ray meets is
known before it is sampled: of the points along the rays of a picture about a tenth lie in cells that are not empty.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from viewtime.model.mini.rays import ray_weights, sample_volume

FAINT = 1e-3  # density below which a cell counts as empty
POINTS_AT_ONCE = (1 << 18, 1 << 24)  # on a CPU, whose caches they should fit, and on a GPU


def solid_points(axes_in: Tensor, axes: Tensor, slope: Tensor, side: int, depths: int) -> tuple[Tensor, ...]:
    """Where the rays of side × side pixels lie in the solid: x, y, z in -1 … 1 of its edges, each [N, V, y, x, Z].

    Args:
        axes_in: of the solid's camera [N, 3, 3]; axes: of those that look at it [N, V, 3, 3].
        slope: tan(fov / 2) of all of them [N].
    """
    turned = torch.einsum("nij,nvkj->nvik", axes_in, axes)
    across = (torch.arange(side, device=axes.device) + 0.5) / side * 2 - 1
    depth = (torch.arange(depths, device=axes.device) + 0.5) / depths * 2 - 1
    slope = slope.view(-1, 1, 1, 1, 1)
    wider = 1 + slope * depth
    right, down, forward = (
        (turned[..., i, 0, None, None] * across + turned[..., i, 1, None, None] * across[:, None])[..., None] * wider
        + turned[..., i, 2, None, None, None] * depth
        for i in range(3)
    )
    nearer = (1 + slope * forward).reciprocal()
    return right * nearer, down * nearer, forward


@torch.compiler.disable
def render_solid(solid: Tensor, axes_in: Tensor, axes: Tensor, slope: Tensor, rays: int) -> Tensor:
    """Composite a solid along the rays of every view; `render_densely` is its slow twin.

    Args:
        solid: [N, 4, D, R, R]; a cell whose density is below `FAINT` counts as empty.
        axes_in, axes, slope: see `solid_points`. rays: along a picture's side; each has D samples.

    Returns:
        [N, V, 4, rays, rays] in [-1, 1], on white.
    """
    of_a_view = rays * rays * solid.shape[2]
    budget = POINTS_AT_ONCE[solid.device.type == "cuda"]
    views = min(axes.shape[1], max(1, budget // of_a_view))
    pictures = max(1, budget // (views * of_a_view))
    seen = [
        torch.cat([_render_part(part, own, some, slopes, rays) for some in looking.split(views, dim=1)], dim=1)
        for part, own, looking, slopes in zip(
            *(values.split(pictures) for values in (solid, axes_in, axes, slope)), strict=True
        )
    ]
    return torch.cat(seen)


def _render_part(solid: Tensor, axes_in: Tensor, axes: Tensor, slope: Tensor, rays: int) -> Tensor:
    """`render_solid` of what fits into the memory next to the processor."""
    N, V, D = len(solid), axes.shape[1], solid.shape[2]
    points = solid_points(axes_in, axes, slope, rays, D)
    inside = rearrange(_inside(solid, points), "n v y x z -> (n v y x) z")
    kept = inside.any(dim=1).nonzero().squeeze(1)
    ray, depth = inside[kept].nonzero(as_tuple=True)
    chosen = kept[ray]
    x, y, z = (values.reshape(-1, D)[chosen, depth] for values in points)
    # One long volume with an empty slice behind each solid, so that one call samples points of all of them.
    stacked = rearrange(F.pad(solid, (0, 0, 0, 0, 0, 1)), "n c z y x -> 1 c (n z) y x")
    above = (chosen // (V * rays * rays)) * (D + 1)
    z = (2 * above + (z + 1) * D) / (N * (D + 1)) - 1
    values = sample_volume(stacked, torch.stack([x, y, z], dim=-1)[None, None, None])[0, :, 0, 0].T
    samples = values.new_zeros(len(kept), D, 4).index_put((ray, depth), values)
    weight = ray_weights(samples[..., 3:], dim=1)
    opacity = weight.sum(dim=1)
    seen = torch.cat([(weight * samples[..., :3]).sum(dim=1) + 1 - opacity, opacity], dim=-1)
    empty = seen.new_ones(4)
    empty[3] = 0
    picture = empty.expand(len(inside), 4).index_copy(0, kept, seen) * 2 - 1
    return rearrange(picture, "(n v y x) c -> n v c y x", n=N, v=V, y=rays)


def _inside(solid: Tensor, points: tuple[Tensor, ...]) -> Tensor:
    """Whether a point lies between cells of which one is not empty: bool [N, V, y, x, Z]."""
    N, _, D, R, _ = solid.shape
    full = F.pad((solid[:, 3:] > FAINT).float(), (2, 2, 2, 2, 2, 2))
    table = (F.max_pool3d(full, 2, stride=1) > 0).flatten()
    first = torch.arange(N, dtype=torch.int32, device=solid.device).view(-1, 1, 1, 1, 1) * ((D + 3) * (R + 3) ** 2)
    index = first
    for values, cells, step in zip(points, (R, R, D), (1, R + 3, (R + 3) ** 2), strict=True):
        cell = (values * (cells / 2) + (cells / 2 + 1.5)).clamp_(0, cells + 2).int()
        index = index + cell * step
    return table.index_select(0, index.flatten()).view_as(index)


def render_densely(solid: Tensor, axes_in: Tensor, axes: Tensor, slope: Tensor, rays: int) -> Tensor:
    """`render_solid`, sampling every point of every ray."""
    points = torch.stack(solid_points(axes_in, axes, slope, rays, solid.shape[2]), dim=-1)
    samples = sample_volume(solid, rearrange(points, "n v y x z i -> n (v y) x z i"))
    samples = rearrange(samples, "n c (v y) x z -> n v z c y x", v=axes.shape[1])
    weight = ray_weights(samples[:, :, :, 3:], dim=2)
    opacity = weight.sum(dim=2)
    colour = (weight * samples[:, :, :, :3]).sum(dim=2) + 1 - opacity
    return torch.cat([colour, opacity], dim=2) * 2 - 1
