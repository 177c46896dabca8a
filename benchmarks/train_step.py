"""Step time split into data, forward, backward and optimiser, and utilisation against the measured matmul rate.

    OMP_NUM_THREADS=2 python benchmarks/train_step.py                               # mini-debug, on any machine
    python benchmarks/train_step.py --config mini --data.options.assets FOLDER      # the shipped model's recipe
    python benchmarks/train_step.py --sv4d                                          # full-size SV4D step, on a GPU

`--sv4d` is one step of the paper's training: 8 views x 5 frames of 72 x 72 latents, batch 1, bf16, activation
checkpointing, random weights and random latents. The rate of the machine is that of a large bf16 (fp32 on a CPU
without fast bf16) matrix product in the same run.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from viewtime.configs.load import build, load_preset
from viewtime.configs.overrides import parse_overrides
from viewtime.configs.train import TrainConfig
from viewtime.train.loop import Trainer, open_stream, stage_loss
from viewtime.train.report import StepTimes, memory_gb

WARM_UP, STEPS = 2, 5
PARTS = ("data", "forward", "backward", "optimizer")


class RandomLatents:
    """9 views x 5 frames of random latents with CLIP embeddings."""

    def __init__(self, batch_size: int, side: int) -> None:
        self.batch_size, self.side = batch_size, side

    def __iter__(self):
        shape = (self.batch_size, 9, 5)
        known = torch.zeros(shape, dtype=torch.bool)
        known[:, 0] = True
        azimuth = (torch.arange(9) * 40.0)[None, :, None].expand(shape)
        cond = {"known": known, "azimuth": azimuth, "elevation": torch.full(shape, 10.0)}
        while True:
            x0 = torch.randn(*shape, 4, self.side, self.side)
            yield {"x0": x0, "cond": {**cond, "clip": torch.randn(*shape, 1024)}}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def random_latents(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> RandomLatents:
    """Stream factory."""
    del seed, rank, world
    return RandomLatents(batch_size, **options)


def sv4d_config() -> TrainConfig:
    """The preset's step without files and without averages."""
    mapping = load_preset("sv4d-train")
    mapping["model"]["config"].pop("start")
    mapping["data"]["options"] = {"preset": "sv4d", "inner": f"{__name__}:random_latents", "side": 72}
    mapping["stages"] = [{"name": "step", "lr": 1e-5, "batch_size": 1, "steps": 1000}]
    mapping["tracking"] = {"log_every": 10**9}
    return build(TrainConfig, {**mapping, "ema": {"lengths": []}, "output": "runs/train_step"}, "sv4d-train")


def matmul_rate(device: torch.device) -> tuple[float, str]:
    """(FLOP/s of a large matrix product, its type), the better of bf16 and fp32."""
    best = (0.0, "")
    side = 8192 if device.type == "cuda" else 1536
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.randn(side, side, device=device, dtype=dtype)
        for attempt in range(4):
            start = time.perf_counter()
            a @ a
            if device.type == "cuda":
                torch.cuda.synchronize()
            rate = 2 * side**3 / (time.perf_counter() - start)
            if attempt > 0:
                best = max(best, (rate, str(dtype).removeprefix("torch.")))
    return best


def main(argv: list[str]) -> None:
    """Run the steps and print one table."""
    config = sv4d_config() if "--sv4d" in argv else parse_overrides(
        TrainConfig, argv or ["--config", "mini-debug"], "train_step.py")  # fmt: skip
    trainer = Trainer(config)
    stage, device = config.stages[-1], trainer.accelerator.device
    batches, loss = iter(open_stream(config, stage, 0, 1)), stage_loss(config, stage)
    trainer.report.stage(stage.name)
    totals = dict.fromkeys(PARTS, 0.0)
    cpu_start = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            cpu_start = time.process_time()
        times = StepTimes(device, synchronise=True)
        with times.measure("data"):
            batch = trainer.next_batch(batches)
        with times.measure("forward"):
            value, _, _ = trainer.loss_of(batch, loss, stage, 0)
        with times.measure("backward"):
            trainer.accelerator.backward(value)
        with times.measure("optimizer"):
            trainer.update(True)
        if step >= WARM_UP:
            totals = {part: totals[part] + times.seconds[part] for part in PARTS}
    cpu = time.process_time() - cpu_start
    whole = sum(totals.values())
    print(f"{config.config or 'sv4d'}, {device}, {STEPS} steps of batch {stage.batch_size}")
    for part, seconds in totals.items():
        print(f"  {part:10s} {1000 * seconds / STEPS:9.1f} ms  {seconds / whole:6.1%}")
    print(f"  {'step':10s} {1000 * whole / STEPS:9.1f} ms  {1000 * cpu / STEPS:.1f} ms of CPU time")
    flops = trainer.report.flops_per_step or 0.0
    rate, dtype = matmul_rate(device)
    reached = flops * STEPS / whole
    print(f"  {flops / 1e9:.2f} GFLOP a step (forward counted, backward twice that), {reached / 1e9:.2f} GFLOP/s")
    print(f"  utilisation {reached / rate:.1%} of the {rate / 1e9:.0f} GFLOP/s of a {dtype} matrix product here")
    print(f"  peak memory {memory_gb(device):.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
