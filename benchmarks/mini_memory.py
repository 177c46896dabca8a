"""Whether frame attention understands motions or remembers them: mini's first prediction by length of its window.

    python benchmarks/mini_memory.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--weights mini] [--limit 24]

One step from pure noise, on clips of the training set as they are, on recombined ones of the training set, and on
held-out clips; windows of one frame (no frame attention), six and twelve. Longer windows that help on training clips
and hurt on held-out ones have been learned by heart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_table import sampled, score  # noqa: E402
from benchmarks.mini_truth import family, family_parser, frame_grid  # noqa: E402
from viewtime.configs.schema.sample import PlanOptions, SamplerOptions  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.log import set_up_logging  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402

WINDOWS = (1, 6, 12)
MEASURES = ("object_crop_psnr", "mask_iou", "flicker")


def clips(assets: Path, folder: Path, limit: int) -> dict[str, list[FrameGrid]]:
    """At most `limit` random grids of each kind."""
    training, recombined, held_out = family(assets, folder)
    kinds = {
        "training clips": (training, np.flatnonzero(~recombined)),
        "training clips, recombined": (training, np.flatnonzero(recombined)),
        "held-out clips": (held_out, np.arange(len(held_out.records))),
    }
    rng = np.random.default_rng(0)
    return {
        name: [frame_grid(source.whole(int(index))) for index in rng.permutation(found)[:limit]]
        for name, (source, found) in kinds.items()
    }


def main() -> int:
    """Score every kind of clip with every window; print a table."""
    options = family_parser(__doc__, limit=24).parse_args()
    set_up_logging()
    kinds = clips(options.assets, options.folder, options.limit)
    pipeline = Pipeline.from_pretrained(options.weights, device="cpu")
    print(f"| first prediction | window | {' | '.join(MEASURES)} |\n|---|---|{'---|' * len(MEASURES)}")
    for name, truths in kinds.items():
        for frames in WINDOWS:
            plan = PlanOptions(kind="independent", window_frames=frames)
            method = sampled(pipeline, SamplerOptions(steps=1), plan)
            summary, _, _ = score(method, truths, f"{name}, {frames}", MEASURES)
            values = {row.metric: row.value for row in summary.rows}
            cells = " | ".join(f"{values[measure]:.4f}" for measure in MEASURES)
            print(f"| {name} | {frames} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
