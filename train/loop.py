"""One loop for every model and loss: stages, accumulation, safety, averages, checkpoints, validation."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import Stage, TrainConfig
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.run_folder import start_run
from viewtime.train.distributed import (
    agreed_maximum,
    check_prepared,
    check_same_batch,
    grid_shares,
    make_accelerator,
    readers,
    reduced_dtype,
    settle_precision,
    share_grid,
    strategy,
)
from viewtime.train.objective.adversarial import Adversary, adversarial_stages
from viewtime.train.objective.conditioning import check_conditioning
from viewtime.train.objective.losses import denoising_loss, masks_from_stream, sample_generator, stage_loss
from viewtime.train.objective.solid import SolidLosses
from viewtime.train.objective.student import Teacher, check_student
from viewtime.train.objective.task import make_task
from viewtime.train.optimizers import build_optimizer, select_parameters, set_learning_rate
from viewtime.train.prepare import autocast_inside, name_shards, prepare_model
from viewtime.train.registry import STREAMS, BatchStream, network_of, resolve
from viewtime.train.schedule import Progress, lr_factor, run_share, stage_share
from viewtime.train.signals import StopRequested, StopSignals
from viewtime.train.state.checkpoint import checkpoints, gathered_weights, load_checkpoint, prune, weight_record
from viewtime.train.state.ema import PowerEma
from viewtime.train.state.parts import Trained
from viewtime.train.state.saving import Saver, restore_place
from viewtime.train.streams.batches import Batch, read_batch
from viewtime.train.watch.report import Report, StepTimes
from viewtime.train.watch.validation import Validator
from viewtime.weights import save_weights


class Trainer:
    """A training run; `run()` trains to the end or to a signal, resuming from the newest checkpoint.

    Attributes:
        stopped_by: number of the signal that ended `run`, 0 if none did.
    """

    def __init__(self, config: TrainConfig) -> None:
        check_conditioning(config.conditioning)
        for stage in config.stages:
            stage_loss(config, stage)
        check_student(config)
        config = settle_precision(config)
        self.config, self.folder = config, Path(config.output)
        self.accelerator = make_accelerator(config)
        self.engine_steps = strategy(self.accelerator) == "deepspeed"
        torch.manual_seed(config.seed)
        module = prepare_model(config.model)
        scales = select_parameters(module, config.model.train)
        dtype, device = reduced_dtype(config), self.accelerator.device
        self.teacher = Teacher(config, module, device, dtype) if config.student.steps else None
        self.shares = grid_shares(self.accelerator, config)
        for shared in (module, self.teacher.module) if self.teacher is not None else (module,):
            share_grid(network_of(shared), self.shares)
        self.reader, self.readers = readers(self.accelerator, config)
        if strategy(self.accelerator) != "fsdp":
            module.to(device)
        if strategy(self.accelerator) == "fsdp":
            name_shards(module)
        if dtype is not None and strategy(self.accelerator) in ("deepspeed", "fsdp"):
            autocast_inside(module, device, dtype)
        self.solids = SolidLosses.wanted(config, module, device)
        optimizer = build_optimizer(module, config.optimizer, scales)
        self.model, self.optimizer = self.accelerator.prepare(module, optimizer)
        check_prepared(self.accelerator, self.model)
        self.module = self.accelerator.unwrap_model(self.model)
        self.adversary: Adversary | None = None
        if adversarial_stages(config):
            self.adversary = Adversary(config, self.module.in_channels, self.accelerator)
        self.ema = PowerEma(self.module, config.ema.lengths)
        models, optimizers = {"model": self.module}, {"model": self.optimizer}
        if self.adversary is not None:
            models["critic"] = self.accelerator.unwrap_model(self.adversary.critic)
            optimizers["critic"] = self.adversary.optimizer
        self.trained, self.saver = Trained(models, optimizers, self.ema), Saver(self.accelerator, config)
        self.progress = Progress()
        self.stream: BatchStream | None = None
        self.ema_samples = 0
        self.report = Report(config, self.accelerator, self.folder)
        self.validator = Validator(config, self.accelerator, self.folder)
        self.saved_at = self.tick = time.monotonic()
        self.saved_step = 0
        self.stream_state: dict | None = None
        self.signals, self.stopped_by = StopSignals(self.accelerator), 0

    def run(self) -> Progress:
        """Train to the end or to a signal (`stopped_by`); returns the counters.

        Raises:
            UserError: a gate or the limit of skipped steps stops it.
        """
        if self.accelerator.is_main_process:
            start_run(self.folder, "train", self.config, self.config.seed)
        with self.signals:
            try:
                self.train()
            except StopRequested:
                if self.progress.step != self.saved_step:
                    self.save()
                self.saver.finish()
                self.stopped_by = self.signals.number
        return self.progress

    def train(self) -> None:
        """From the newest checkpoint to the end. Raises StopRequested at a signal."""
        state = self.resume()
        complete = self.is_complete()
        if complete:
            log.info("this run is complete: %d steps", self.progress.step)
        else:
            self.report.start(self.model, self.progress)
            if self.validator.on:
                for held_out in self.validator.open(self.signals):
                    check_same_batch(held_out, self.shares)
        self.tick = self.saved_at = time.monotonic()
        while not self.is_complete():
            self.run_stage(self.config.stages[self.progress.stage], state)
            state = None
        if self.validator.on and self.progress.validated != self.progress.step:
            self.validate()
        if complete:
            self.exporter()()
            return
        self.save()
        self.saver.finish()
        self.report.end(self.progress)

    def is_complete(self) -> bool:
        """Whether all stages are done or the run's time is over."""
        return self.progress.stage == len(self.config.stages) or run_share(self.config, self.progress) >= 1

    def run_stage(self, stage: Stage, state: dict | None) -> None:
        """Train one stage to its end. Raises StopRequested at a signal."""
        accelerator = self.accelerator
        with self.signals.interrupting(), accelerator.main_process_first():  # one renders, the others find it done
            stream = open_stream(self.config, stage, self.reader, self.readers, self.progress.data_starts)
        if state is not None:
            restore_place(stream, state, checkpoints(self.folder / "checkpoints")[-1])
        self.stream = stream
        loss = stage_loss(self.config, stage)
        batches = iter(stream)
        self.report.stage(stage.name)
        while stage_share(stage, self.progress) < 1 and run_share(self.config, self.progress) < 1:
            self.step(stage, loss, batches)
            now = time.monotonic()
            told = [now - self.tick, self.late(now), self.signals.number]
            passed, late, signalled = agreed_maximum(accelerator, told)
            self.tick = now
            self.progress.seconds += passed
            self.progress.stage_seconds += passed
            self.signals.heed(int(signalled))
            self.saver.check()
            if self.validator.due(self.progress):
                self.validate()
            if self.save_due(bool(late)):
                self.save()
        close = getattr(stream, "close", None)
        if close is not None:
            close()
        self.progress.stage += 1
        self.progress.stage_step, self.progress.stage_seconds = 0, 0.0

    def step(self, stage: Stage, loss: LossSection, batches: Iterator[Any]) -> None:
        """One optimiser step of `accumulate` micro-batches; a non-finite one is skipped and counted."""
        config, accelerator, progress = self.config, self.accelerator, self.progress
        share = run_share(config, progress)
        lr = stage.lr * lr_factor(config.schedule, progress.step, share)
        set_learning_rate(self.optimizer, lr)
        times = StepTimes(accelerator.device)
        losses = []
        for micro in range(config.optimizer.accumulate):
            with times.measure("data"):
                batch = self.next_batch(batches, loss, micro == 0)
            with accelerator.accumulate(*self.models(loss)):
                with times.measure("forward"):
                    value, per_sample, level = self.loss_of(batch, loss, stage, micro)
                losses.append((per_sample, level))
                with times.measure("backward"):
                    # A bad loss makes every gradient NaN, and so the norm, on all processes: nothing is read before.
                    accelerator.backward(value * torch.where(value.detach().isfinite(), 1.0, math.nan))
        with times.measure("optimizer"):
            norm = self.update()
            if self.adversary is not None:
                self.adversary.update(math.isfinite(norm))
        grids = stage.batch_size * self.readers * config.optimizer.accumulate
        progress.step += 1
        progress.stage_step += 1
        progress.samples += grids
        self.ema_samples += grids
        self.count_skips(norm, losses)
        if config.ema.lengths and progress.step % config.ema.every == 0:
            self.ema.update(self.module, progress.samples, self.ema_samples)
            self.ema_samples = 0
        self.report.step(progress, losses, norm, lr, grids, times)

    def next_batch(self, batches: Iterator[Any], loss: LossSection, first: bool) -> Batch:
        """The stream's next batch, checked and on the device; a signal interrupts the wait for a step's first one."""
        if first:
            self.stream_state = self.stream.state_dict() if self.stream is not None else {}
        try:
            with self.signals.interrupting() if first else contextlib.nullcontext():
                raw = next(batches)
            self.stream_state = None
        except StopIteration as error:
            raise UserError("the data stream ended; a stream must be endless") from error
        batch = read_batch(raw, self.accelerator.device, masked=masks_from_stream(self.config, loss))
        check_same_batch(batch, self.shares)
        return batch

    def loss_of(self, batch: Batch, loss: LossSection, stage: Stage, micro: int) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, loss of each sample, its noise level); random numbers depend on the sample's number alone."""
        micros = self.progress.stage_step * self.config.optimizer.accumulate + micro
        number = micros * self.readers + self.reader
        first = (self.progress.stage << 48) + number * stage.batch_size
        part = self.accelerator.process_index % self.config.context_parallel  # of the grid, with dropout of its own
        torch.manual_seed(sample_generator(self.config.seed, first, purpose=1 + 8 * part).initial_seed())
        task = make_task(self.config, batch, loss, first, self.model, self.teacher)
        noised = task.noised
        self.report.count_flops(lambda: self.model(noised.x, noised.sigma, task.cond))
        denoised = self.model(noised.x, noised.sigma, task.cond)
        value, per_sample = denoising_loss(denoised, task.target, noised, loss)
        if self.solids is not None:
            chance = sample_generator(self.config.seed, first, purpose=8)
            value = value + self.solids(batch.x0, task.cond, loss, chance)
        if self.adversary is not None and loss.adversarial > 0:
            noises = [sample_generator(self.config.seed, first + i, purpose=4) for i in range(len(batch.x0))]
            share = loss.adversarial * self.adversary.strength(self.progress)
            judged = (batch.x0, task.cond, noised.unknown, noises)
            value, margin = self.adversary.with_pull(value, share, denoised, *judged)
            self.report.margin(margin)
        return value, per_sample, noised.level

    def models(self, loss: LossSection) -> list[torch.nn.Module]:
        """What this loss trains."""
        if self.adversary is None or loss.adversarial == 0:
            return [self.model]
        return [self.model, self.adversary.critic]

    def update(self) -> float:
        """Clip and step; returns the gradient norm, or NaN for a skipped step."""
        accelerator = self.accelerator
        if self.engine_steps:  # accelerate's backward has already clipped and stepped, or left the step out
            norm = self.model.get_global_grad_norm()
            self.optimizer.zero_grad()
            return math.nan if norm is None else float(norm)
        limit = self.config.optimizer.clip_norm or math.inf
        trained = [p for p in self.model.parameters() if p.requires_grad]
        norm = float(accelerator.clip_grad_norm_(trained, limit))
        if math.isfinite(norm) or self.config.precision == "fp16":  # the fp16 scaler skips and rescales by itself
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def count_skips(self, norm: float, losses: list) -> None:
        """Count a skipped step; UserError past the limit."""
        if math.isfinite(norm):
            self.progress.skipped_in_a_row = 0
            return
        self.progress.skipped += 1
        self.progress.skipped_in_a_row += 1
        finite = all(bool(torch.isfinite(per_sample).all()) for per_sample, _ in losses)
        reason = "gradient" if finite else "loss"
        log.warning("step %d skipped: non-finite %s", self.progress.step, reason)
        if self.progress.skipped_in_a_row >= self.config.optimizer.skip_limit:
            raise UserError(
                f"{self.progress.skipped_in_a_row} steps in a row had a non-finite {reason} (optimizer.skip_limit); "
                "lower the learning rate, or look at the data; the newest checkpoint is from before"
            )

    def late(self, now: float) -> bool:
        """Whether the last checkpoint is older than `checkpoint.every_seconds` by this process's clock."""
        return now - self.saved_at >= (self.config.checkpoint.every_seconds or math.inf)

    def save_due(self, late: bool) -> bool:
        """Whether a checkpoint is written after this step; `late`: in time, as all processes agreed."""
        every = self.config.checkpoint.every_steps
        return late or bool(every and self.progress.step % every == 0)

    def save(self) -> None:
        """Write a checkpoint and the weights for inference."""
        state = self.stream_state  # before a batch that was waited for in vain
        if state is None:
            state = self.stream.state_dict() if self.stream is not None else {}
        self.saver.save(self.folder / "checkpoints", self.trained, self.progress, state, self.exporter())
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def exporter(self) -> Callable[[], None]:
        """Writes `weights.safetensors` as they are now: the chosen average, or the weights themselves without."""
        lengths = self.config.ema.lengths
        length = self.config.ema.export if self.config.ema.export is not None else (lengths[0] if lengths else None)
        main = self.accelerator.is_main_process
        tensors = gathered_weights(self.module, self.ema, length, self.config, keep=main)
        record = weight_record(self.module, self.config, length, self.progress)

        def export() -> None:
            if main:
                save_weights(self.folder / "weights.safetensors", tensors, record)

        return export

    def resume(self) -> dict | None:
        """Restore the newest checkpoint; returns this process's stream position, or None for a fresh start."""
        if self.accelerator.is_main_process:  # a run killed as it thinned them out may have been at its end
            prune(self.folder / "checkpoints", self.config.checkpoint)
        found = checkpoints(self.folder / "checkpoints")
        if not found:
            return None
        path, group = found[-1], self.saver.group
        self.progress, state = load_checkpoint(path, self.accelerator, self.trained, self.config, group)
        self.saved_step = self.progress.step
        self.validator.last_seconds = self.progress.validated_seconds
        log.info("resumed from %s: step %d, %d samples", path, self.progress.step, self.progress.samples)
        at_start = self.progress.stage_step == 0
        return None if at_start else state

    def validate(self) -> None:
        """Measure and report, unless a signal comes first."""
        record = self.validator(self.model, self.module, self.ema, self.progress, self.signals)
        self.report.validation(record, self.progress)
        self.progress.validated, self.progress.validated_seconds = self.progress.step, self.progress.seconds


def open_stream(config: TrainConfig, stage: Stage, rank: int, world: int, starts: int = 0) -> BatchStream:
    """The stream of a stage for one process; `starts`: see `Progress.data_starts`."""
    factory = resolve(stage.factory or config.data.factory, STREAMS, "stream")
    options = {**config.data.options, **stage.data}
    seed = config.seed + 7919 * config.stages.index(stage) + 15485863 * starts
    return factory(options, batch_size=stage.batch_size, seed=seed, rank=rank, world=world)
