"""4D assets out of mini's own grids: how near the truth are they in views that the fit was given, and in others?

    python benchmarks/mini_recon.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--weights mini] [--limit 4]

For each held-out clip, mini makes nine views × twelve frames from view 0. Gaussians are fitted to all of them but views
2 and 6 (80° and 240°), isotropic and anisotropic, without and with the remedies for views that disagree. Printed: PSNR
(picture, object crop) and mask IoU against the truth, of mini's frames and of each asset, in the given novel views and
in the two held-out ones. The first clip's pictures are written to --out: truth, mini, asset, for views 2 and 4.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path

import torch
from einops import rearrange

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_table import sampled  # noqa: E402
from benchmarks.mini_truth import VIEWS, family_parser, family_truth  # noqa: E402
from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig  # noqa: E402
from viewtime.configs.schema.sample import PlanOptions, SamplerOptions  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.images import contact_sheet  # noqa: E402
from viewtime.recon.fitting.score import scores  # noqa: E402
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402

HELD_OUT = [2, 6]
GIVEN = [view for view in range(1, VIEWS) if view not in HELD_OUT]
REMEDIES = ImperfectOptions(offset=True, robust=True, view_weighting=True)
FITS = {
    "anisotropic": ({}, ImperfectOptions()),
    "isotropic": ({"isotropic": True}, ImperfectOptions()),
    "anisotropic, remedies": ({}, REMEDIES),
}


def fitted(grid: FrameGrid, changes: dict, remedies: ImperfectOptions) -> FrameGrid:
    """What the asset shows in every view of the grid, fitted to all but the held-out ones."""
    given = grid[[0, *GIVEN]]
    options = dataclasses.replace(GaussianOptions(), **changes)
    fit, _ = fit_gaussians(given, ReconstructConfig(Path("grid"), gaussians=options, imperfect=remedies))
    assert grid.cameras is not None
    return bake(fit, given).render_grid(grid.cameras, *grid.shape[3:])


def main() -> int:
    """Sample, fit, score, print."""
    parser = family_parser(__doc__, limit=4)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mini_recon")
    options = parser.parse_args()
    truths = family_truth(options.assets, options.folder, options.limit).held_out
    make = sampled(Pipeline.from_pretrained(options.weights, device="cpu"), SamplerOptions(), PlanOptions())
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    for number, truth in enumerate(truths):
        made = dataclasses.replace(truth, frames=make(truth))
        shown = {"mini itself": made, **{name: fitted(made, *fit) for name, fit in FITS.items()}}
        for name, grid in shown.items():
            for label, views in (("given", GIVEN), ("held out", HELD_OUT)):
                rows.setdefault((name, label), []).append(scores(grid[views], truth[views]))
        if number == 0:
            three = torch.stack([grid.rgb()[[2, 4]] for grid in (truth, made, shown["anisotropic"])], dim=1)
            labels = [f"{text} {40 * view}°" for view in (2, 4) for text in ("truth", "mini", "asset")]
            sheet = rearrange(three, "v s f c h w -> (v s) f c h w")
            print(contact_sheet(sheet, options.out / "sheet.png", row_labels=labels, max_columns=6))
    print("| frames of | novel views | PSNR | PSNR, object crop | mask IoU |\n|---|---|---|---|---|")
    for (name, label), results in rows.items():
        means = {key: statistics.mean(row[key] for row in results) for key in ("psnr", "crop_psnr", "iou")}
        print(f"| {name} | {label} | {means['psnr']:.2f} | {means['crop_psnr']:.2f} | {means['iou']:.3f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
