"""What each part of the Gaussian fit is worth, as the papers claim it, on clips with held-out views.

    python benchmarks/recon_ablations.py --assets FOLDER [--clips q_animals__Horse ...] [--only joint mlp ...]
        [--first 7 --dynamic-iterations 600]

Prints held-out PSNR, crop PSNR and IoU of each variant and its difference to `default` at equal iterations. `jitter`
moves, scales and brightens every training picture at random (sigma 0.5 px, 1 %, 2 %; `jitter2` twice that) and compares
remedies. All variants are scored on the same four views, half way between those of `default`; the training views of
`views_16` stand 11.25 degrees from them. --first fits only so many of the 21 frames. Each result is kept as a JSON file
in --results, and a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from recon_clips import orbit_of
from recon_table import HELD_OUT_START, Row, deformable, measured

from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid

COMPENSATION = ImperfectOptions(offset=True, exposure=True)
TWO_STAGE = dataclasses.replace(COMPENSATION, two_stage=True)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Changed options of the Gaussians, remedies, training views, strength of the jitter, and what to compare with."""

    changes: dict = dataclasses.field(default_factory=dict)
    remedies: ImperfectOptions = dataclasses.field(default_factory=ImperfectOptions)
    views: int = 8
    jitter: float = 0.0
    against: str = "default"


VARIANTS = {
    "default": Variant(),
    "joint": Variant({"static_iterations": 0, "curriculum": False}),
    "no_curriculum": Variant({"curriculum": False}),
    "isotropic": Variant({"isotropic": True}),
    "isotropic_4000": Variant({"isotropic": True, "count": 4000}),
    "mlp": Variant({"motion": "mlp"}),
    "free": Variant({"motion": "free"}),
    "views_4": Variant(views=4),
    "views_16": Variant(views=16),
    "jitter": Variant(jitter=1.0),
    "jitter_isotropic": Variant({"isotropic": True}, jitter=1.0, against="jitter"),
    "jitter_compensated": Variant(remedies=COMPENSATION, jitter=1.0, against="jitter"),
    "jitter_two_stage": Variant(remedies=TWO_STAGE, jitter=1.0, against="jitter"),
    "jitter_view_deformation": Variant(remedies=ImperfectOptions(view_deformation=True), jitter=1.0, against="jitter"),
    "jitter2": Variant(jitter=2.0),
    "jitter2_compensated": Variant(remedies=COMPENSATION, jitter=2.0, against="jitter2"),
    "jitter2_two_stage": Variant(remedies=TWO_STAGE, jitter=2.0, against="jitter2"),
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


def measure(name: str, clip: str, options: argparse.Namespace) -> Row:
    """Fit one variant and score it on the held-out views."""
    variant = VARIANTS[name]
    start = 11.25 if variant.views == 16 else 0.0
    train = orbit_of(options.assets, options.cache, clip, variant.views, start=start)[:, : options.first]
    unseen = orbit_of(options.assets, options.cache, clip, 4, start=HELD_OUT_START)[:, : options.first]
    train = jitter(train, variant.jitter) if variant.jitter else train
    gaussians = dataclasses.replace(
        GaussianOptions(), static_iterations=options.static_iterations, dynamic_iterations=options.dynamic_iterations
    )
    gaussians = dataclasses.replace(gaussians, **variant.changes)
    config = ReconstructConfig(Path("grid"), gaussians=gaussians, imperfect=variant.remedies)
    return measured(lambda: deformable(train, unseen, config), unseen)


def main() -> None:
    """Parse the command line, run what is missing, print."""
    default = GaussianOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("VIEWTIME_ASSETS", "../shared/assets")))
    parser.add_argument("--clips", nargs="+", default=["q_animals__Horse", "q_dinosaurs__Trex"])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--first", type=int, default=21)
    parser.add_argument("--static-iterations", type=int, default=default.static_iterations)
    parser.add_argument("--dynamic-iterations", type=int, default=default.dynamic_iterations)
    parser.add_argument("--cache", type=Path, default=Path("runs/recon_table"), help="rendered truth")
    parser.add_argument("--results", type=Path, default=Path("runs/recon_ablations"))
    options = parser.parse_args()
    print("| clip | variant | PSNR | crop | IoU | against | CPU s |\n|" + " --- |" * 7)
    for clip in options.clips:
        rows: dict[str, Row] = {}
        for name in options.only:
            size = f"{options.first}-{options.static_iterations}-{options.dynamic_iterations}"
            kept = options.results / f"{clip}-{name}-{size}.json"
            if not kept.is_file():
                row = measure(name, clip, options)
                with atomic_path(kept) as path:
                    path.write_text(json.dumps(row, indent=1))
            row = rows[name] = json.loads(kept.read_text())
            base = VARIANTS[name].against
            gain = f"{row['psnr'] - rows[base]['psnr']:+.2f} dB to {base}" if base in rows and base != name else ""
            scores = f"{row['psnr']:.2f} | {row['crop_psnr']:.2f} | {row['iou']:.3f}"
            print(f"| {clip} | {name} | {scores} | {gain} | {row['cpu_seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
