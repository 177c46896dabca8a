"""What each part of the Gaussian fit is worth, as the papers claim it, on one clip with held-out views.

    python benchmarks/recon_ablations.py --assets FOLDER [--clip q_animals__Horse] [--only curriculum isotropic ...]

Prints held-out PSNR, crop PSNR and IoU of each variant and its difference to the default at equal iterations. `jitter`
moves, scales and brightens every training picture at random (0.5 px, 1 %, 2 %; `jitter2` twice that) and compares the
fit with and without compensation.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from recon_table import CLIPS, deformable, measured, truth

from viewtime.cameras import regular_orbit
from viewtime.configs.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid

COMPENSATION = ImperfectOptions(offset=True, exposure=True)
VARIANTS: dict[str, tuple[dict, ImperfectOptions, int, float]] = {
    # name: changed options, remedies, training views, strength of the jitter
    "default": ({}, ImperfectOptions(), 8, 0.0),
    "joint": ({"static_iterations": 0, "curriculum": False}, ImperfectOptions(), 8, 0.0),
    "no_curriculum": ({"curriculum": False}, ImperfectOptions(), 8, 0.0),
    "anisotropic": ({"isotropic": False}, ImperfectOptions(), 8, 0.0),
    "mlp": ({"motion": "mlp"}, ImperfectOptions(), 8, 0.0),
    "free": ({"motion": "free"}, ImperfectOptions(), 8, 0.0),
    "views_4": ({}, ImperfectOptions(), 4, 0.0),
    "views_16": ({}, ImperfectOptions(), 16, 0.0),
    "jitter": ({}, ImperfectOptions(), 8, 1.0),
    "jitter_compensated": ({}, COMPENSATION, 8, 1.0),
    "jitter_view_deformation": ({}, ImperfectOptions(view_deformation=True), 8, 1.0),
    "jitter2": ({}, ImperfectOptions(), 8, 2.0),
    "jitter2_compensated": ({}, COMPENSATION, 8, 2.0),
}


def jitter(grid: FrameGrid, strength: float, seed: int = 0) -> FrameGrid:
    """Every picture shifted (sigma 0.5 px), scaled (sigma 1 %) and brightened (sigma 2 %), times `strength`."""
    V, frames, _, H, W = grid.shape
    generator = torch.Generator().manual_seed(seed)
    noise = strength * torch.randn(V * frames, 4, generator=generator)
    zoom = 1 + 0.01 * noise[:, 2]
    theta = torch.zeros(V * frames, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, 0, 2], theta[:, 1, 2] = noise[:, 0] * 0.5 * 2 / W, noise[:, 1] * 0.5 * 2 / H
    flat = rearrange(grid.frames, "v f c h w -> (v f) c h w")
    premultiplied = torch.cat([flat[:, :3] * flat[:, 3:], flat[:, 3:]], dim=1)
    moved = F.grid_sample(premultiplied, F.affine_grid(theta, list(flat.shape), False), align_corners=False)
    colour = moved[:, :3] / moved[:, 3:].clamp(min=1e-4) * (1 + 0.02 * noise[:, 3])[:, None, None, None]
    result = torch.cat([colour.clamp(0, 1), moved[:, 3:]], dim=1)
    return dataclasses.replace(grid, frames=rearrange(result, "(v f) c h w -> v f c h w", v=V))


def main() -> None:
    """Parse the command line, run the variants, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("VIEWTIME_ASSETS", "../shared/assets")))
    parser.add_argument("--clip", default="q_animals__Horse")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--dynamic-iterations", type=int, default=GaussianOptions().dynamic_iterations)
    options = parser.parse_args()
    path = options.assets / f"{options.clip}.glb"
    if not path.is_file():
        raise UserError(f"no such asset: {path}; give --assets FOLDER")
    wanted = CLIPS.get(options.clip, "")
    unseen = truth(path, wanted, regular_orbit(4, options.frames, elevation=15.0, azimuth_start=22.5 / 2))
    first: dict[str, float] | None = None
    for name in options.only:
        changes, remedies, views, strength = VARIANTS[name]
        train = truth(path, wanted, regular_orbit(views, options.frames, elevation=15.0))
        train = jitter(train, strength) if strength else train
        gaussians = dataclasses.replace(GaussianOptions(dynamic_iterations=options.dynamic_iterations), **changes)
        config = ReconstructConfig(Path("grid"), gaussians=gaussians, imperfect=remedies)
        row = measured(lambda t=train, c=config: deformable(t, unseen, c), unseen)
        first = first or row
        print(
            f"{name:24s} PSNR {row['psnr']:.2f} ({row['psnr'] - first['psnr']:+.2f})  crop {row['crop_psnr']:.2f}  "
            f"IoU {row['iou']:.3f}  {row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU s",
            flush=True,
        )


if __name__ == "__main__":
    main()
