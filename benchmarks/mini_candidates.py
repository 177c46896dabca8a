"""Ways to learn view geometry, at equal training time: what configs/mini.yaml has, and it with one thing changed.

    python benchmarks/mini_candidates.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--seconds 300] [--seeds 0 1]
        [--only "as shipped" "no lifting"]

Each candidate trains for the same wall-clock time on one thread, on single instants, with the learning rate falling to
zero, and is measured on the held-out clips: error at t = 1 and 0.8, and mask IoU by azimuth of its prediction from pure
noise. Results are kept in --output; a run goes on where the last one stopped. Nothing else should run on the machine.
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
from viewtime.configs.train import TrainConfig  # noqa: E402
from viewtime.sample.metrics.image import mask_iou  # noqa: E402
from viewtime.train.loop import Trainer  # noqa: E402

FEW_VIEWS = {"views": 4, "batch_size": 8}
# What is changed, as dotted paths into configs/mini.yaml; "stage." belongs to the one stage trained here.
CANDIDATES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no lifting": {"model.config.lift_channels": 0},
    "wider volume": {"model.config.lift_channels": 24},
    "four views a grid": {"stage.data.views": 4, "stage.batch_size": 9},
    "no mass at pure noise": {"loss.point_mass": 0.0, "loss.logit_mean": 0.0},
    "adamw": {"optimizer.name": "adamw", "stage.lr": 1.0e-3},
}


def config_of(name: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """The training config of a candidate: one stage of single instants."""
    raw = copy.deepcopy(load_preset("mini"))
    stage: dict[str, Any] = {"name": "one instant", "lr": 3.0e-3, "batch_size": 4, "data": {"views": 9}}
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
    raw["output"] = str(options.output / f"{name.replace(' ', '_')}_{seed}")
    return build(TrainConfig, raw, where=name)


@torch.no_grad()
def measure(trainer: Trainer) -> dict[str, float]:
    """Held-out errors through the averaged weights, and mask IoU by azimuth of the prediction at t = 1."""
    validator, row = trainer.validator, {}
    record = validator(trainer.model, trainer.module, trainer.ema, trainer.progress)
    row |= {name: value for name, value in record.items() if name.startswith("val/mse")}
    overlaps: dict[int, list[float]] = {}
    with trainer.ema.swapped_in(trainer.module, trainer.config.ema.export):
        for batch in validator.batches or []:
            x0 = batch.x0
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(x0.shape, generator=generator)
            level = torch.ones(x0.shape[:3])
            predicted = trainer.model(noise, level, batch.cond)
            for b in range(len(x0)):
                iou = mask_iou(predicted[b] / 2 + 0.5, x0[b] / 2 + 0.5)[:, 0]
                for v in (~batch.cond["known"][b, :, 0]).nonzero().flatten().tolist():
                    azimuth = round(float(batch.cond["azimuth"][b, v, 0])) % 360
                    overlaps.setdefault(azimuth, []).append(float(iou[v]))
    row |= {f"iou@{azimuth}": statistics.mean(values) for azimuth, values in sorted(overlaps.items())}
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
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--output", type=Path, default=Path("runs/mini_candidates"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = {name: [run(name, seed, options) for seed in options.seeds] for name in options.only}
    columns = ["val/mse@1", "val/mse@0.8", "iou", "iou@40", "iou@80", "iou@120", "iou@160", "grids"]
    print("| candidate | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, rows in table.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            half = (max(values) - min(values)) / 2
            digits = 0 if column == "grids" else 4
            cells.append(f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
