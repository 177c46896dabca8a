"""The Warp kernels, which CUDA takes, beside the compiled C++ of the CPU: one thread, equal numbers, the ratio.

    OMP_NUM_THREADS=1 python benchmarks/warp_kernels.py

Each is compared in value and gradient before it is timed; the fastest of three runs counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from viewtime.cameras import regular_orbit
from viewtime.recon.nerf.encoding import encode
from viewtime.recon.nerf.kernels.encoding_warp import encode_warp
from viewtime.recon.nerf.levels import Levels
from viewtime.recon.nerf.marching import Block, march_compiled, march_warp
from viewtime.recon.nerf.rays import cast
from viewtime.recon.render.renderer import render
from viewtime.recon.render.splats import Viewpoints

POINTS, GAUSSIANS, SIZE, RUNS = 50_000, 2000, 128, 3
Work = Callable[[], list[Tensor]]


def encoder(function: Callable[..., Tensor]) -> Work:
    """16 levels of a hash grid at 50 k points, with gradients of table and points."""
    levels = Levels.geometric(16, 16, 1024, 2**15)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(POINTS, 3, generator=generator).requires_grad_()
    table = torch.randn(levels.entries, 2, generator=generator).requires_grad_()
    weight = torch.randn(POINTS, 2 * len(levels), generator=generator)

    def work() -> list[Tensor]:
        out = function(points, table, levels)
        return [out.detach(), *torch.autograd.grad((out * weight).sum(), [table, points])]

    return work


def marching(function: Callable[..., tuple[Tensor, Tensor]]) -> Work:
    """Rays of nine pictures through voxels of which two fifths are occupied; no gradients."""
    generator = torch.Generator().manual_seed(0)
    occupied = (torch.rand(1, 96, 96, 96, generator=generator) < 0.4).to(torch.uint8)
    block = Block(occupied, 5.0 * occupied, torch.full((3,), -0.5), 1.0)
    views, pixel = Viewpoints.of(regular_orbit(9, 1), SIZE, SIZE), torch.arange(9 * 64 * 64)
    place = torch.stack([2 * (pixel % 64) + 1.0, 2 * (pixel // 64 % 64) + 1.0], dim=-1)
    rays = cast(views, pixel // 64**2, place, torch.zeros_like(pixel))
    jitter = torch.rand(len(rays), generator=generator)

    def work() -> list[Tensor]:
        _, valid = function(block, rays.origins, rays.directions, rays.slot, jitter, 0.004, 48)
        return [valid.sum(dim=1).float().mean()]  # a sample on the border of a voxel may fall to either side

    return work


def splats(backend: str) -> Work:
    """Nine pictures of 2000 anisotropic Gaussians, with the gradients of all that a fit learns."""
    generator = torch.Generator().manual_seed(0)
    means = (torch.rand(1, GAUSSIANS, 3, generator=generator) - 0.5).expand(9, -1, -1).clone().requires_grad_()
    root = 0.02 * torch.randn(1, GAUSSIANS, 3, 3, generator=generator)
    covariance = (root @ root.transpose(-1, -2) + 1e-4 * torch.eye(3)).requires_grad_()
    opacity = torch.rand(1, GAUSSIANS, generator=generator).requires_grad_()
    colour = torch.rand(1, GAUSSIANS, 3, generator=generator).requires_grad_()
    views = Viewpoints.of(regular_orbit(9, 1), SIZE, SIZE)

    def work() -> list[Tensor]:
        picture = render(means, covariance, opacity, colour, views, backend=backend)
        grads = torch.autograd.grad(picture.rgb.square().sum(), [means, covariance, opacity, colour])
        return [picture.rgb.detach(), *grads]

    return work


def kernels() -> dict[str, tuple[Callable[[], Work], Callable[[], Work]]]:
    """Name -> what makes the compiled and the Warp work."""
    return {
        f"hash grid, {POINTS} points": (lambda: encoder(encode), lambda: encoder(encode_warp)),
        "ray marching": (lambda: marching(march_compiled), lambda: marching(march_warp)),
        f"splatting {GAUSSIANS} Gaussians": (lambda: splats("compiled"), lambda: splats("warp")),
    }


def difference(found: list[Tensor], right: list[Tensor]) -> float:
    """Largest error over the largest value, over all results."""
    pairs = zip(found, right, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def fastest(work: Work) -> float:
    """Seconds."""
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{'':32s}{'C++ (ms)':>10s}{'Warp (ms)':>11s}{'ratio':>8s}{'difference':>12s}")
    for name, makers in kernels().items():
        compiled, warp = (make() for make in makers)
        apart = difference(warp(), compiled())
        seconds = [fastest(work) for work in (compiled, warp)]
        print(
            f"{name:32s}{1000 * seconds[0]:10.1f}{1000 * seconds[1]:11.1f}{seconds[1] / seconds[0]:8.2f}{apart:12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
