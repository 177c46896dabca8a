"""Which of SV4D's losses (A.5) help the NeRF where the views do not agree: held-out scores on clips with jitter.

    python benchmarks/nerf_losses.py --assets FOLDER [--clips q_animals__Horse] [--only default depth] [--first 5]

Every training picture is moved, scaled and brightened at random as in `recon_ablations.py`; the four held-out views are
as rendered. LPIPS runs where its package and its weights are there and is left out of the table elsewhere. Each result
is kept as a JSON file in --results, and a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

from recon_ablations import jitter
from recon_clips import orbit_of
from recon_table import HELD_OUT_START, Row, dynamic_nerf, measured

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.configs.schema.reconstruct_nerf import NerfLossWeights, NerfOptions
from viewtime.errors import UserError
from viewtime.files import atomic_path

DEFAULT = NerfLossWeights()
PATCHES = {"patches_per_step": 16, "patch": 8}
VARIANTS: dict[str, tuple[NerfLossWeights, dict]] = {
    "default": (DEFAULT, {}),
    "no mask": (dataclasses.replace(DEFAULT, mask=0.0), {}),
    "patches": (dataclasses.replace(DEFAULT, depth=1e-9), PATCHES),  # the rays of the patches alone
    "depth": (dataclasses.replace(DEFAULT, depth=1e-4), PATCHES),
    "depth 10": (dataclasses.replace(DEFAULT, depth=1e-3), PATCHES),
    "bilateral": (dataclasses.replace(DEFAULT, bilateral=0.01), PATCHES),
    "bilateral 10": (dataclasses.replace(DEFAULT, bilateral=0.1), PATCHES),
    "depth + bilateral": (dataclasses.replace(DEFAULT, depth=1e-4, bilateral=0.01), PATCHES),
    "lpips": (dataclasses.replace(DEFAULT, lpips=0.1), {"patches_per_step": 1, "patch": 32}),
}


def measure(name: str, clip: str, options: argparse.Namespace) -> Row:
    """Fit with one set of weights and score it on the held-out views."""
    weights, changes = VARIANTS[name]
    train = orbit_of(options.assets, options.cache, clip, 8)[:, : options.first]
    unseen = orbit_of(options.assets, options.cache, clip, 4, start=HELD_OUT_START)[:, : options.first]
    nerf = NerfOptions(
        weights=weights, static_iterations=options.static_iterations, dynamic_iterations=options.dynamic_iterations,
        **changes,
    )  # fmt: skip
    config = ReconstructConfig(Path("grid"), method="nerf", nerf=nerf)
    return measured(lambda: dynamic_nerf(jitter(train, options.jitter), unseen, config), unseen)


def main() -> None:
    """Parse the command line, run what is missing, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("VIEWTIME_ASSETS", "../shared/assets")))
    parser.add_argument("--clips", nargs="+", default=["q_animals__Horse"])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--first", type=int, default=5)
    parser.add_argument("--jitter", type=float, default=1.0)
    parser.add_argument("--static-iterations", type=int, default=250)
    parser.add_argument("--dynamic-iterations", type=int, default=750)
    parser.add_argument("--cache", type=Path, default=Path("runs/recon_table"), help="rendered truth")
    parser.add_argument("--results", type=Path, default=Path("runs/nerf_losses"))
    options = parser.parse_args()
    print("| clip | losses | PSNR | crop | IoU | to default | CPU s |\n|" + " --- |" * 7)
    for clip in options.clips:
        rows: dict[str, Row] = {}
        for name in options.only:
            size = f"{options.first}-{options.jitter:g}-{options.static_iterations}-{options.dynamic_iterations}"
            kept = options.results / f"{clip}-{name.replace(' ', '_')}-{size}.json"
            if not kept.is_file():
                try:
                    row = measure(name, clip, options)
                except UserError as error:
                    print(f"| {clip} | {name} | not run: {error} | | | | |")
                    continue
                with atomic_path(kept) as path:
                    path.write_text(json.dumps(row, indent=1))
            row = rows[name] = json.loads(kept.read_text())
            gain = f"{row['psnr'] - rows['default']['psnr']:+.2f} dB" if "default" in rows and name != "default" else ""
            scores = f"{row['psnr']:.2f} | {row['crop_psnr']:.2f} | {row['iou']:.3f}"
            print(f"| {clip} | {name} | {scores} | {gain} | {row['cpu_seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
