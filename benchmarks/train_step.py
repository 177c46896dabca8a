"""Step time split into data, forward, backward and optimiser, and utilisation against the measured matmul rate.

    OMP_NUM_THREADS=2 python benchmarks/train_step.py                               # mini-debug, on any machine
    python benchmarks/train_step.py --config mini --data.options.assets FOLDER      # the shipped model's recipe
    python benchmarks/train_step.py --sv4d sv4d                                     # full-size SV4D step, on a GPU
    python benchmarks/train_step.py --sv4d sv4d-debug                               # the same road, tiny, on a CPU

`--sv4d PRESET [--section.key value …]` is one step of the paper's training: 8 views x 5 frames of 72 x 72 latents
(debug: 3 x 2 of 8 x 8), batch 1, bf16, activation checkpointing, random weights and random latents. The rate of the
machine is that of a large bf16 or fp32 matrix product, whichever is faster, in the same run; `bf16` and `fp32` of it
are printed too. Backward times include the recomputed forward; the FLOPs of the utilisation do not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from viewtime.configs.load import load_preset
from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig
from viewtime.model.published.presets import load_model_config
from viewtime.train.loop import Trainer, open_stream, stage_loss
from viewtime.train.watch.report import StepTimes, memory_gb

WARM_UP, STEPS = 3, 5
PARTS = ("data", "forward", "backward", "optimizer")


class RandomLatents:
    """Random latent grids with CLIP embeddings; view 0 is the input."""

    def __init__(self, batch_size: int, views: int, frames: int, side: int, context: int) -> None:
        self.cells, self.latent = (batch_size, views, frames), (4, side, side)
        self.context = context

    def __iter__(self):
        known = torch.zeros(self.cells, dtype=torch.bool)
        known[:, 0] = True
        views = self.cells[1]
        azimuth = (torch.arange(views) * 360.0 / views)[None, :, None].expand(self.cells)
        cond = {"known": known, "azimuth": azimuth, "elevation": torch.full(self.cells, 10.0)}
        while True:
            x0 = torch.randn(*self.cells, *self.latent)
            yield {"x0": x0, "cond": {**cond, "clip": torch.randn(*self.cells, self.context)}}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def random_latents(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> RandomLatents:
    """Stream factory."""
    del seed, rank, world
    return RandomLatents(batch_size, **options)


def sv4d_config(preset: str, overrides: list[str]) -> TrainConfig:
    """The step of sv4d-train with that network, without files and without averages."""
    mapping = load_preset("sv4d-train")
    mapping["model"]["config"] = {"preset": preset, "gradient_checkpointing": True}
    debug = preset.endswith("-debug")
    grid = {"views": 4, "frames": 2, "side": 8} if debug else {"views": 9, "frames": 5, "side": 72}
    context = load_model_config(preset).network.context_dim
    stream = {"preset": preset, "inner": f"{__name__}:random_latents", "context": context}
    mapping["data"]["options"] = {**grid, **stream}
    mapping["stages"] = [{"name": "step", "lr": 1e-5, "batch_size": 1, "steps": 1000}]
    mapping["tracking"] = {"log_every": 10**9}
    mapping |= {"ema": {"lengths": []}, "output": "runs/train_step", "config": preset}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.yaml"
        path.write_text(yaml.safe_dump(mapping))
        return parse_overrides(TrainConfig, ["--config", str(path), *overrides], "train_step.py")


def matmul_rates(device: torch.device) -> dict[str, float]:
    """FLOP/s of a large matrix product by type, the best of three."""
    rates = {}
    side = 8192 if device.type == "cuda" else 1536
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.randn(side, side, device=device, dtype=dtype)
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            a @ a
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / min(seconds[1:])
    return rates


def main(argv: list[str]) -> None:
    """Run the steps and print one table."""
    if argv[:1] == ["--sv4d"]:
        name = argv[1] if argv[1:] else "sv4d"
        config = sv4d_config(name, argv[2:])
    else:
        config = parse_overrides(TrainConfig, argv or ["--config", "mini-debug"], "train_step.py")
        name = Path(config.config).stem
    trainer = Trainer(config)
    stage, device = config.stages[-1], trainer.accelerator.device
    batches, loss = iter(open_stream(config, stage, 0, 1)), stage_loss(config, stage)
    trainer.report.stage(stage.name)
    totals = dict.fromkeys(PARTS, 0.0)
    cpu_start, shape = 0.0, ()
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            cpu_start = time.process_time()
        times = StepTimes(device, synchronise=True)
        with times.measure("data"):
            batch = trainer.next_batch(batches, loss, first=True)
        shape = batch.x0.shape
        with times.measure("forward"):
            value, _, _ = trainer.loss_of(batch, loss, stage, 0)
        with times.measure("backward"):
            trainer.accelerator.backward(value)
        with times.measure("optimizer"):
            trainer.update()
        if step >= WARM_UP:
            totals = {part: totals[part] + times.seconds[part] for part in PARTS}
    cpu = time.process_time() - cpu_start
    whole = sum(totals.values())
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{name}, {config.precision}, {where}, {STEPS} steps of batch {stage.batch_size}, grid {list(shape)}")
    for part, seconds in totals.items():
        print(f"  {part:10s} {1000 * seconds / STEPS:9.1f} ms  {seconds / whole:6.1%}")
    print(f"  {'step':10s} {1000 * whole / STEPS:9.1f} ms  {1000 * cpu / STEPS:.1f} ms of CPU time")
    flops = trainer.report.flops_per_step or 0.0
    peak, rates = memory_gb(device), matmul_rates(device)
    dtype, rate = max(rates.items(), key=lambda item: item[1])
    reached = flops * STEPS / whole
    print(f"  {flops / 1e9:.2f} GFLOP a step (forward counted, backward twice that), {reached / 1e9:.2f} GFLOP/s")
    print(f"  utilisation {reached / rate:.1%} of the {rate / 1e9:.0f} GFLOP/s of a {dtype} matrix product here")
    print("  matrix products: " + ", ".join(f"{kind} {value / 1e9:.0f} GFLOP/s" for kind, value in rates.items()))
    print(f"  peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
