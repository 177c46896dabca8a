"""Does the network use what it is told? One fixed grid, 300 steps: as it is, without frame attention, cameras shuffled.

    OMP_NUM_THREADS=2 python benchmarks/overfit.py [--steps 300]

Prints the loss at the start and at the end of each run (mean of 20 steps, same noise in all three). With a single
grid a network could ignore the cameras and learn the views by heart, if anything else told them apart; the cameras of
the last run are drawn anew at every step, so that nothing does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.train import TrainConfig
from viewtime.files import read_jsonl
from viewtime.train.loop import Trainer
from viewtime.train.streams.synthetic import SyntheticStream

AVERAGED = 20
VARIANTS = ("as it is", "without frame attention", "cameras shuffled")


class ShuffledCameras(SyntheticStream):
    """The azimuths of the unknown views change places at every batch."""

    def batch(self, indices: list[int]) -> dict[str, Any]:
        """See `SyntheticStream.batch`."""
        batch = super().batch(indices)
        generator = torch.Generator().manual_seed(self.position)
        order = 1 + torch.randperm(self.shape[0] - 1, generator=generator)
        azimuth = batch["cond"]["azimuth"]
        batch["cond"]["azimuth"] = torch.cat([azimuth[:, :1], azimuth[:, order]], dim=1)
        return batch


def shuffled_cameras(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> ShuffledCameras:
    """Stream factory."""
    return ShuffledCameras(batch_size, seed, rank, world, **options)


def overfit(variant: str, steps: int, folder: Path) -> tuple[float, float]:
    """Train one variant of mini-debug; returns the mean loss of the first and of the last 20 steps."""
    mapping = load_preset("mini-debug")
    mapping["data"]["options"]["fixed"] = 1
    mapping["stages"] = [{"name": "overfit", "lr": 3e-3, "batch_size": 2, "steps": steps}]
    mapping |= {"validation": {}, "checkpoint": {"every_steps": 0}, "tracking": {"log_every": 1}, "output": str(folder)}
    mapping["schedule"] = {"warmup_steps": 20, "decay": "linear", "decay_share": 0.5}
    mapping["device"] = "cpu"
    if variant == VARIANTS[1]:
        mapping["model"]["config"]["frame_attention"] = False
    if variant == VARIANTS[2]:
        mapping["data"]["factory"] = f"{__name__}:shuffled_cameras"
    Trainer(build(TrainConfig, mapping, variant)).run()
    losses = [record["loss"] for record in read_jsonl(folder / "metrics.jsonl")]
    return sum(losses[:AVERAGED]) / AVERAGED, sum(losses[-AVERAGED:]) / AVERAGED


def compare(steps: int) -> dict[str, tuple[float, float]]:
    """Every variant's (start, end)."""
    with tempfile.TemporaryDirectory() as folder:
        return {variant: overfit(variant, steps, Path(folder) / str(i)) for i, variant in enumerate(VARIANTS)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Overfit mini-debug on one grid, three ways.")
    parser.add_argument("--steps", type=int, default=300)
    for variant, (first, last) in compare(parser.parse_args().steps).items():
        print(f"{variant:26s} loss {first:8.4f} -> {last:8.4f}  ({last / first:.1%} of its start)")


if __name__ == "__main__":
    main()
