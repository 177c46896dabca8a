"""What the user sees of a run: a console line, metrics.jsonl, and accelerate's trackers."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.configs.schema.train import TrainConfig
from viewtime.files import append_jsonl
from viewtime.images import read_image
from viewtime.log import log
from viewtime.run_folder import plain
from viewtime.train.cost import flop_counter
from viewtime.train.schedule import Progress

BACKWARD_FLOPS = 2  # a backward pass costs twice its forward pass


class StepTimes:
    """Seconds of one step by part; on CUDA only true with `synchronise`, as kernels run behind the host."""

    def __init__(self, device: torch.device, synchronise: bool = False) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.wait = torch.cuda.synchronize if synchronise and device.type == "cuda" else (lambda: None)

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the block's duration to a part."""
        start = time.perf_counter()
        yield
        self.wait()
        self.seconds[part] += time.perf_counter() - start


class Report:
    """Collects steps and writes every `tracking.log_every` of them.

    Attributes:
        flops_per_step: of the model's forward and backward in one process, without a critic's, counted on the first
            batch of a stage; None before.
    """

    def __init__(self, config: TrainConfig, accelerator: Any, folder: Path) -> None:
        self.config, self.accelerator, self.path = config, accelerator, folder / "metrics.jsonl"
        self.flops_per_step: float | None = None
        self.stage_name = ""
        self.count_next = True
        self._clear()

    def _clear(self) -> None:
        self.losses: list[tuple[Tensor, Tensor]] = []
        self.margins: list[Tensor] = []
        self.norms: list[float] = []
        self.parts: dict[str, float] = defaultdict(float)
        self.grids, self.steps, self.since = 0, 0, time.monotonic()

    def start(self, model: torch.nn.Module, progress: Progress) -> None:
        """Open the trackers and drop records of steps that a killed run did after its last checkpoint."""
        if self.config.tracking.trackers:
            if "wandb" in self.config.tracking.trackers and not os.environ.get("WANDB_API_KEY"):
                os.environ.setdefault("WANDB_MODE", "offline")
            options = {"wandb": {"dir": str(self.path.parent)}} if "wandb" in self.config.tracking.trackers else {}
            self.accelerator.init_trackers(self.config.tracking.project, plain(self.config), options)
        if self.accelerator.is_main_process:
            keep_records_until(self.path, progress.step)
            trained = sum(int(getattr(p, "ds_numel", p.numel())) for p in model.parameters() if p.requires_grad)
            log.info("training %.2f M parameters in %d processes", trained / 1e6, self.accelerator.num_processes)

    def stage(self, name: str) -> None:
        """A stage begins: count its FLOPs anew."""
        self.stage_name, self.count_next = name, True
        self._clear()

    def count_flops(self, forward: Callable[[], object]) -> None:
        """Once a stage: run `forward` (the model on the first batch) and count, without a trace in the training.

        Eagerly also where the model is compiled, as the counter sees no compiled kernels; without gradients, so that
        recomputed activations do not count either.
        """
        if not self.count_next:
            return
        self.count_next = False
        cuda = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        eager = torch.compiler.set_stance("force_eager")
        with torch.random.fork_rng(cuda), torch.no_grad(), eager, flop_counter() as counter:
            forward()
        forward_flops = counter.get_total_flops()
        self.flops_per_step = forward_flops * (1 + BACKWARD_FLOPS) * self.config.optimizer.accumulate

    def step(self, progress: Progress, losses: list[tuple[Tensor, Tensor]], norm: float, lr: float, grids: int,
             times: StepTimes) -> None:  # fmt: skip
        """Note one step; every so many, write."""
        self.losses += losses
        self.norms.append(norm)
        for part, seconds in times.seconds.items():
            self.parts[part] += seconds
        self.grids += grids
        self.steps += 1
        if progress.step % self.config.tracking.log_every == 0:
            self.write(progress, lr)

    def margin(self, margin: Tensor) -> None:
        """Note how far the critic tells real from made on one micro-batch."""
        self.margins.append(margin)

    def write(self, progress: Progress, lr: float) -> None:
        """Average over the processes, write the record, print the line."""
        per_sample = self._gather(torch.cat([loss for loss, _ in self.losses]))
        level = self._gather(torch.cat([level for _, level in self.losses]))
        seconds = max(time.monotonic() - self.since, 1e-9)
        record: dict[str, Any] = {
            "step": progress.step,
            "samples": progress.samples,
            "stage": self.stage_name,
            "seconds": round(progress.seconds, 2),
            "loss": float(per_sample.double().mean()),
            "lr": lr,
            "grad_norm": self.norms[-1],
            "samples_per_second": self.grids / seconds,
            "data_wait": self.parts["data"] / seconds,
            "skipped": progress.skipped,
            "memory_gb": memory_gb(self.accelerator.device),
        }
        if self.flops_per_step is not None:
            rate = self.flops_per_step * self.steps / seconds
            record["tflops_per_process"] = rate / 1e12
            if self.config.tracking.peak_flops:
                record["utilisation"] = rate / self.config.tracking.peak_flops
        if self.margins:
            record["critic_margin"] = float(self._gather(torch.stack(self.margins)).mean())
        record |= loss_by_level(per_sample, level, self.config)
        self._emit(record, progress.step)
        extra = f" mfu {record['utilisation']:.1%}" if "utilisation" in record else ""
        extra += f" critic {record['critic_margin']:+.2f}" if "critic_margin" in record else ""
        if self.accelerator.is_main_process:
            log.info(
                "%s step %d (%d samples, %.0f s) loss %.4f lr %.2e norm %.2f  %.1f samples/s%s  wait %.0f%%  %.2f GB",
                self.stage_name, progress.step, progress.samples, progress.seconds, record["loss"], lr, self.norms[-1],
                record["samples_per_second"], extra, 100 * record["data_wait"], record["memory_gb"],
            )  # fmt: skip
        self._clear()

    def validation(self, record: dict[str, Any], progress: Progress) -> None:
        """Write a validation record."""
        self._emit({"step": progress.step, "samples": progress.samples, "seconds": progress.seconds, **record},
                   progress.step)  # fmt: skip
        if self.accelerator.is_main_process:
            self._show_samples(progress.step)
            shown = "  ".join(f"{k} {v:.4f}" for k, v in record.items() if isinstance(v, float))
            log.info("validation at step %d: %s", progress.step, shown)
        self.since = time.monotonic()

    def _show_samples(self, step: int) -> None:
        """The grids sampled at this step, for wandb."""
        sheets = sorted((self.path.parent / "samples" / f"step_{step:08d}").glob("grid_*.png"))
        if sheets and "wandb" in self.config.tracking.trackers:
            tracker = self.accelerator.get_tracker("wandb")
            tracker.log_images({"val/grids": [read_image(sheet) for sheet in sheets]}, step=step)

    def end(self, progress: Progress) -> None:
        """Close the trackers."""
        if self.config.tracking.trackers:
            self.accelerator.end_training()
        if self.accelerator.is_main_process:
            log.info("done: %d steps, %d samples, %.0f s", progress.step, progress.samples, progress.seconds)

    def _gather(self, values: Tensor) -> Tensor:
        return self.accelerator.gather(values.float()).cpu()

    def _emit(self, record: dict[str, Any], step: int) -> None:
        if self.accelerator.is_main_process:
            append_jsonl(self.path, record)
        if self.config.tracking.trackers:
            self.accelerator.log({k: v for k, v in record.items() if isinstance(v, (int, float))}, step=step)


def keep_records_until(path: Path, step: int) -> None:
    """Cut metrics.jsonl back to the step that the run resumes from."""
    from viewtime.files import atomic_path, read_jsonl

    if not path.is_file():
        return
    records = [record for record in read_jsonl(path) if record["step"] <= step]
    with atomic_path(path) as temporary:
        temporary.touch()
        for record in records:
            append_jsonl(temporary, record)


def loss_by_level(per_sample: Tensor, level: Tensor, config: TrainConfig) -> dict[str, float]:
    """Mean loss in buckets of the noise level: equal steps of t, or of log10 sigma from −2 to 2 for EDM."""
    count = config.tracking.sigma_buckets
    flow = config.loss.kind == "flow"
    low, high = (0.0, 1.0) if flow else (-2.0, 2.0)
    place = level if flow else level.clamp_min(1e-9).log10()
    index = ((place - low) / (high - low) * count).long().clamp(0, count - 1)
    edges = [low + (high - low) * i / count for i in range(count + 1)]
    return {
        f"loss/{edges[i]:.2g}..{edges[i + 1]:.2g}": float(per_sample[index == i].mean())
        for i in range(count)
        if bool((index == i).any())
    }


def memory_gb(device: torch.device) -> float:
    """Peak memory: of the GPU, or resident of this process, in 10^9 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
