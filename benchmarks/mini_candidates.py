"""Ways to learn view geometry and parts of the architecture, at equal training time.

    python benchmarks/mini_candidates.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--seconds 240] [--seeds 0 1]
        [--only "instants" "instants, no lifting"]

Each candidate is configs/mini.yaml with one thing changed. It trains for the same wall-clock time on one thread, with
the learning rate falling to zero, on single instants or on moving grids of which the first frame is known from all
views in half of the cases (SV4D's reference views). It is measured on held-out clips: error at t = 1 and 0.8, and of
its prediction from pure noise the mask IoU, by azimuth too, and for moving grids the flicker. Results are kept in
--output; a run goes on where the last one stopped. Nothing else should run on the core that it has.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.configs.load import build, load_preset  # noqa: E402
from viewtime.configs.schema.train import TrainConfig  # noqa: E402
from viewtime.sample.metrics.measures.image import flicker, mask_iou  # noqa: E402
from viewtime.train.loop import Trainer  # noqa: E402

INSTANTS = {"stage.batch_size": 4, "stage.data": {"views": 9}}
MOVING = {
    "stage.batch_size": 2,
    "stage.data": {"views": 4, "frames": 4, "max_stride": 2, "known": {"view": 0.5, "view_and_frame": 0.5}},
    "validation.data.frames": 4,
    "validation.batch_size": 1,
    "validation.batches": 12,
    "validation.data.known": {"view": 0.0, "view_and_frame": 1.0},
}
# What is changed, as dotted paths into configs/mini.yaml; "stage." belongs to the one stage trained here.
CANDIDATES: dict[str, dict[str, Any]] = {
    "instants": INSTANTS,
    "instants, no lifting": INSTANTS | {"model.config.lift_channels": 0},
    "instants, no mass at pure noise": INSTANTS | {"loss.point_mass": 0.0, "loss.logit_mean": 0.0},
    "instants, solid": INSTANTS | {"model.config.frustum_width": 32},
    "instants, solid in place of lifting": INSTANTS
    | {"model.config.frustum_width": 32, "model.config.lift_channels": 0},
    "instants, solid alone": INSTANTS | {"model.config.frustum_width": 32, "model.config.depth": 0},
    "instants, four views": {"stage.batch_size": 9, "stage.data": {"views": 4}},
    "instants, adamw": INSTANTS | {"optimizer.name": "adamw", "stage.lr": 1.0e-3},
    "moving": MOVING,
    "moving, no frame attention": MOVING | {"model.config.frame_attention": False},
    "moving, no view attention": MOVING | {"model.config.view_attention": False},
    "moving, no reference views": MOVING
    | {"stage.data": {"views": 4, "frames": 4, "max_stride": 2}, "validation.data.known": {"view": 1.0}},
}


def config_of(name: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """The training config of a candidate: one stage of single instants."""
    raw = copy.deepcopy(load_preset("mini"))
    stage: dict[str, Any] = {"name": "all", "lr": 3.0e-3}
    raw["data"]["options"]["assets"] = str(options.assets)
    raw["model"]["compile"] = False
    raw["validation"] |= {"every_seconds": 0.0, "every_steps": 10**9, "gates": [], "levels": [0.8, 1.0]}
    raw["checkpoint"] = {"every_steps": 0, "every_seconds": 0, "keep_last": 1}
    for path, value in CANDIDATES[name].items():
        *parents, last = path.split(".")
        section = stage if parents[:1] == ["stage"] else raw
        for key in parents[1:] if section is stage else parents:
            section = section[key]
        section[last] = value
    raw |= {"stages": [stage | {"seconds": options.seconds}], "seed": seed}
    raw["output"] = str(options.output / f"{name.replace(',', '').replace(' ', '_')}_{seed}")
    return build(TrainConfig, raw, where=name)


@torch.no_grad()
def measure(trainer: Trainer) -> dict[str, float]:
    """Held-out errors through the averaged weights, and mask IoU by azimuth of the prediction at t = 1."""
    validator, row = trainer.validator, {}
    record = validator(trainer.model, trainer.module, trainer.ema, trainer.progress)
    row |= {name: value for name, value in record.items() if name.startswith("val/mse")}
    overlaps: dict[int, list[float]] = {}
    flickers: list[float] = []
    with trainer.ema.swapped_in(trainer.module, trainer.config.ema.export):
        for batch in validator.batches or []:
            x0 = batch.x0
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(x0.shape, generator=generator)
            level = torch.ones(x0.shape[:3])
            known = batch.cond["known"][..., None, None, None]
            predicted = torch.where(known, x0, trainer.model(noise, level, batch.cond))
            for b in range(len(x0)):
                made, truth = predicted[b] / 2 + 0.5, x0[b] / 2 + 0.5
                iou = mask_iou(made, truth)
                for v, f in (~batch.cond["known"][b]).nonzero().tolist():
                    azimuth = round(float(batch.cond["azimuth"][b, v, f])) % 360
                    overlaps.setdefault(azimuth, []).append(float(iou[v, f]))
                if x0.shape[2] > 1:
                    flickers.append(float(flicker(made[1:], truth[1:]).mean()))
    row |= {f"iou@{azimuth}": statistics.mean(values) for azimuth, values in sorted(overlaps.items())}
    if flickers:
        row["flicker"] = statistics.mean(flickers)
    return row | {"iou": statistics.mean(value for values in overlaps.values() for value in values)}


def run(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train and measure one candidate; the result is kept."""
    config = config_of(name, seed, options)
    kept = Path(config.output) / "result.json"
    if not kept.is_file():
        trainer = Trainer(config)
        trainer.run()
        row = measure(trainer) | {"grids": float(trainer.progress.samples)}
        row["parameters"] = float(sum(p.numel() for p in trainer.module.parameters()))
        kept.write_text(json.dumps(row))
    return json.loads(kept.read_text())


def main() -> int:
    """Train what is not there yet and print the table: mean and half range over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--output", type=Path, default=Path("runs/mini_candidates"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = {name: [run(name, seed, options) for seed in options.seeds] for name in options.only}
    columns = ["val/mse@1", "val/mse@0.8", "iou", "iou@40", "iou@80", "iou@120", "iou@160", "flicker", "grids"]
    print("| candidate | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, rows in table.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows if column in row]
            if not values:
                cells.append("")
                continue
            half = (max(values) - min(values)) / 2
            digits = 0 if column == "grids" else 4
            cells.append(f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
