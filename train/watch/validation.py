"""Held-out error at fixed noise levels through the averaged weights, and the gates that stop a run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from viewtime.configs.schema.train import Gate, TrainConfig
from viewtime.errors import UserError
from viewtime.log import progress as progress_of
from viewtime.train.distributed import readers
from viewtime.train.objective.losses import noised_batch, sample_errors, sample_generator
from viewtime.train.registry import STREAMS, resolve
from viewtime.train.schedule import Progress
from viewtime.train.signals import StopSignals
from viewtime.train.state.ema import PowerEma
from viewtime.train.streams.batches import Batch, read_batch

VALIDATION_SEED = 1_000_003


class Validator:
    """Measures on the same held-out batches with the same noise each time."""

    def __init__(self, config: TrainConfig, accelerator: Any, folder: Path) -> None:
        self.config, self.accelerator, self.folder = config, accelerator, folder
        self.batches: list[Batch] | None = None
        self.last_seconds = 0.0
        section = config.validation
        self.on = bool(section.every_steps or section.every_seconds)
        if section.gates and not self.on:
            raise UserError("validation.gates need validation.every_steps or every_seconds")
        if self.on and not section.data and section.factory is None:
            raise UserError("validation has no data of its own: give validation.data or validation.factory (held out)")

    def due(self, progress: Progress) -> bool:
        """Whether a validation is due after this step; `progress.seconds` is the same on every process."""
        section = self.config.validation
        by_step = section.every_steps > 0 and progress.step % section.every_steps == 0
        by_time = section.every_seconds > 0 and progress.seconds - self.last_seconds >= section.every_seconds
        return by_step or by_time

    def open(self, signals: StopSignals) -> list[Batch]:
        """The held-out batches of this process; opened early, what is wrong with them ends a run before it has trained.

        Raises:
            UserError: they cannot be had.
            StopRequested: at a signal.
        """
        if self.batches is None:
            try:
                self.batches = self._load(signals)
            except UserError as error:
                raise UserError(f"validation: {error}") from error
        return self.batches

    def _load(self, signals: StopSignals) -> list[Batch]:
        section, accelerator = self.config.validation, self.accelerator
        factory = resolve(section.factory or self.config.data.factory, STREAMS, "stream")
        options = {**self.config.data.options, **section.data}
        with signals.interrupting(), accelerator.main_process_first():
            number, count = readers(accelerator, self.config)
            stream = factory(options, batch_size=section.batch_size, seed=VALIDATION_SEED, rank=number, world=count)
            raw = iter(stream)
            masked = self.config.loss.known_cells != "ignored"
            return [read_batch(next(raw), accelerator.device, masked) for _ in range(section.batches)]

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, module: nn.Module, ema: PowerEma, progress: Progress, signals: StopSignals
    ) -> dict[str, Any]:
        """Measure; returns the record.

        Raises:
            UserError: a gate is not met.
            StopRequested: a signal came; the weights are as before.
        """
        batches = self.open(signals)
        started = time.monotonic()
        self.last_seconds = progress.seconds
        was_training = model.training
        model.eval()
        length = self.config.ema.export if self.config.ema.export is not None else (ema.lengths or [None])[0]
        averaged = ema.swapped_in(module, length) if length is not None else contextlib.nullcontext()
        with averaged:
            levels = self.config.validation.levels
            shown = progress_of(levels, "validation, noise levels") if self.accelerator.is_main_process else levels
            record = {f"val/mse@{level:g}": self.error_at(model, level, signals) for level in shown}
            if self.config.validation.sample_steps > 0:
                from .samples import sample_and_measure

                where = self.folder / "samples" / f"step_{progress.step:08d}"
                batch = batches[0]
                record |= sample_and_measure(model, batch, self.config, where, self.accelerator, signals.check)
        model.train(was_training)
        record["val/seconds"] = time.monotonic() - started
        for gate in self.config.validation.gates:
            check_gate(gate, record, progress)
        return record

    def error_at(self, model: nn.Module, level: float, signals: StopSignals) -> float:
        """Mean squared error in x0 at one noise level, over the unknown cells of all processes' batches."""
        errors = []
        reader, count = readers(self.accelerator, self.config)
        for number, batch in enumerate(self.batches or []):
            signals.check()
            first = (number * count + reader) * len(batch.x0)
            generators = [sample_generator(VALIDATION_SEED, first + i) for i in range(len(batch.x0))]
            noised = noised_batch(batch.x0, batch.cond.get("known"), self.config.loss, generators, level)
            errors.append(sample_errors(model(noised.x, noised.sigma, batch.cond), batch.x0, noised.unknown))
        return float(self.accelerator.gather(torch.cat(errors)).mean())


def check_gate(gate: Gate, record: dict[str, Any], progress: Progress) -> None:
    """Raise UserError if the gate's time has come and its metric has not reached the limit."""
    reached = progress.step >= gate.at_step if gate.at_step is not None else progress.seconds >= (gate.at_seconds or 0)
    if gate.metric not in record:
        raise UserError(f"gate on {gate.metric}: no such metric; validation measures {', '.join(record)}")
    value = float(record[gate.metric])
    met = value < gate.below if gate.below is not None else value > (gate.above or 0.0)
    if reached and not met:
        side = f"below {gate.below:g}" if gate.below is not None else f"above {gate.above:g}"
        since = f"step {gate.at_step}" if gate.at_step is not None else f"{gate.at_seconds:g} s"
        raise UserError(
            f"gate not met: {gate.metric} is {value:.4f} at step {progress.step}, required {side} from {since} on; "
            "the run stops here: change the model, the data or the gate"
        )
