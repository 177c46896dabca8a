"""The papers' sampling ablation at the size of mini (SV4D, table 6): mixed against independent and interleaved.

    python benchmarks/mini_plans.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--seeds 2] [--limit 8]

Windows of four frames over twelve frames of held-out clips; `joint` takes all twelve at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_table import METRICS, sampled, score  # noqa: E402
from benchmarks.mini_truth import family_parser, family_truth  # noqa: E402
from viewtime.configs.schema.sample import PlanOptions, SamplerOptions  # noqa: E402
from viewtime.log import set_up_logging  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402

PLANS = ("sv4d", "independent", "interleaved", "sv4d2", "joint")


def main() -> int:
    """Score every plan with every seed; print mean and half range over the seeds."""
    parser = family_parser(__doc__, limit=8)
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    set_up_logging()
    truths = family_truth(options.assets, options.folder, options.limit).held_out
    pipeline = Pipeline.from_pretrained(options.weights, device="cpu")
    print(f"| plan | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for plan in PLANS:
        rows = []
        for seed in range(options.seeds):
            windows = PlanOptions(kind=plan, window_frames=None if plan == "joint" else 4)  # type: ignore[arg-type]
            method = sampled(pipeline, SamplerOptions(steps=options.steps), windows, seed)
            summary, _, _ = score(method, truths, f"{plan} {seed}")
            rows.append([row.value for row in summary.rows])
        values = torch.tensor(rows)
        spread = (values.amax(0) - values.amin(0)) / 2
        cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(values.mean(0), spread, strict=True)]
        print(f"| {plan} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
