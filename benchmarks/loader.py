"""Training samples a second of the loader for the mini preset, and the share of a step spent waiting for data.

    python benchmarks/loader.py --family runs/kaykit64             # the preset's own stream, rendered once
    python benchmarks/loader.py --assets FOLDER                    # on the fly, through the GL engine
    python benchmarks/loader.py --shards FOLDER                    # from shards (`viewtime encode`)

Give several to have them in one run.

The waiting share is measured around real training steps of the mini network (forward, backward, AdamW): wall time
inside `next(loader)` over wall time of the whole step. Baseline of the ratio: the same batch every time, no loader.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from viewtime.configs.load import load_preset
from viewtime.configs.schema.data import DataConfig
from viewtime.data.build import build_loader
from viewtime.data.live.family_source import FamilySource
from viewtime.data.loader import GridLoader
from viewtime.data.sources import Mixture
from viewtime.model.registry import build_denoiser


def open_loader(config: DataConfig, family: str) -> GridLoader:
    """The loader of the configuration's sources, or of a family's rendered folder where that is named."""
    if not family:
        return build_loader(config)
    source = FamilySource(Path(family), False, config.views, config.frames, config.max_stride)
    return GridLoader(Mixture([source], [1.0]), config)


def samples_per_second(config: DataConfig, family: str, batches: int) -> tuple[float, float]:
    """Samples a second by wall clock and by the process's own CPU seconds, without workers, after a warm-up."""
    iterator = iter(open_loader(replace(config, workers=0), family))
    for _ in range(5):
        next(iterator)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    count = batches * config.batch_size
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


class Trainer:
    """The mini network in a plain training step."""

    def __init__(self) -> None:
        preset = load_preset("mini")["model"]
        torch.manual_seed(0)
        self.denoiser = build_denoiser(preset["name"], preset["config"])
        self.optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=1e-4)

    def step(self, x0: torch.Tensor, cond: dict[str, torch.Tensor]) -> float:
        """One step on x0 [B, V, F, C, H, W] at t = 0.5; the loss."""
        noisy = 0.5 * x0 + 0.5 * torch.randn_like(x0)
        loss = (self.denoiser(noisy, torch.full((len(x0),), 0.5), cond) - x0).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def waiting_share(config: DataConfig, family: str, steps: int) -> tuple[float, float, float]:
    """(share of the step spent waiting, seconds a step with the loader, seconds a step on one batch)."""
    trainer, iterator = Trainer(), iter(open_loader(config, family))
    batch = next(iterator)
    for _ in range(2):
        trainer.step(batch.x0, batch.cond)
    began = time.perf_counter()
    for _ in range(steps):
        trainer.step(batch.x0, batch.cond)
    fixed = (time.perf_counter() - began) / steps
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - before
        trainer.step(batch.x0, batch.cond)
    whole = time.perf_counter() - began
    iterator.close()
    return waited / whole, whole / steps, fixed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="", help="folder of a rendered family (data.options.folder)")
    parser.add_argument("--assets", default="", help="folder of GLB files or a curation manifest")
    parser.add_argument("--shards", default="", help="folder of pixel shards")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batches", type=int, default=25)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    preset = load_preset("mini")
    stage = max(preset["stages"], key=lambda stage: stage["data"].get("frames", 1))
    size = {name: stage["data"][name] for name in ("views", "frames", "max_stride")}
    resolution = preset["data"]["options"]["resolution"]
    print(f"mini, stage {stage['name']!r}: {size}, {resolution} px, batch {stage['batch_size']}")
    print("source | samples/s | samples/CPU s | waiting share | s/step | s/step on one batch")
    for name in ("family", "assets", "shards"):
        if not getattr(arguments, name):
            continue
        family = arguments.family if name == "family" else ""
        config = DataConfig(
            **({} if family else {name: getattr(arguments, name)}),
            **size,
            resolution=resolution,
            channels=preset["model"]["config"]["channels"],
            batch_size=stage["batch_size"],
            workers=0 if family else arguments.workers,
        )
        wall, cpu = samples_per_second(config, family, arguments.batches)
        share, step, fixed = waiting_share(config, family, arguments.steps)
        print(f"{name} | {wall:.1f} | {cpu:.1f} | {share:.1%} | {step:.3f} | {fixed:.3f}", flush=True)


if __name__ == "__main__":
    main()
