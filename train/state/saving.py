"""Writing checkpoints: by every process its share, at once or behind the training. Restoring its place in the data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed

from viewtime.configs.schema.train import TrainConfig
from viewtime.files import replace_folder
from viewtime.json_files import finite_json
from viewtime.log import log
from viewtime.run_folder import plain
from viewtime.train.distributed import readers, strategy
from viewtime.train.schedule import Progress

from .checkpoint import RECORD, SHARDS, damage_told, prune
from .engine import save_engine
from .parts import Trained, copied, own_share, write


def restore_place(stream: Any, state: dict, checkpoint: Path) -> None:
    """Have a stream go on where it stood in a checkpoint; UserError where `state` is none of such a stream."""
    with damage_told(checkpoint):
        stream.load_state_dict(state)


class Saver:
    """Writes the checkpoints of one run; every process has one and calls it at the same steps.

    Attributes:
        group: on which the processes' CPUs talk, apart from the training; None for one process, and under DeepSpeed.
    """

    def __init__(self, accelerator: Any, config: TrainConfig) -> None:
        self.accelerator, self.config = accelerator, config
        self.engine = strategy(accelerator) == "deepspeed"
        self.group: Any = None
        if accelerator.num_processes > 1 and not self.engine:
            wait = timedelta(minutes=config.wait_minutes)
            self.group = torch.distributed.new_group(backend="gloo", timeout=wait)
        self.behind = config.checkpoint.background and not self.engine
        if config.checkpoint.background and self.engine:
            log.warning("checkpoint.background: DeepSpeed writes its own shards while the training waits; use FSDP2")
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None

    def save(
        self, folder: Path, trained: Trained, progress: Progress, stream: dict, export: Callable[[], None]
    ) -> None:
        """Write everything of this step, then the exported weights; behind the training after a copy, if so asked.

        Args:
            folder: of the checkpoints.
            stream: this process's position in the data, that of all who share its grids.
            export: writes the weights, which it holds already.
        """
        self.finish()
        accelerator, main = self.accelerator, self.accelerator.is_main_process
        final = folder / f"step_{progress.step:08d}"
        temporary = final.with_name(f".{final.name}.partial")
        record = {
            "progress": asdict(progress), "world": accelerator.num_processes, "config": plain(self.config),
            "readers": readers(accelerator, self.config)[1],
        }  # fmt: skip
        if accelerator.scaler is not None:
            record["scaler"] = accelerator.scaler.state_dict()
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        if accelerator.process_index % self.config.context_parallel == 0:
            number, _ = readers(accelerator, self.config)
            (temporary / f"stream_{number}.json").write_text(json.dumps(stream))
        if self.engine:
            save_engine(temporary, accelerator, trained)
            accelerator.wait_for_everyone()
            shares = None
        else:
            shares = own_share(trained.tensors(), accelerator.process_index, accelerator.num_processes)

        def finished(shares: Any) -> None:
            if shares is not None:
                write(shares, temporary / SHARDS, self.group)
            if main:
                (temporary / RECORD).write_text(json.dumps(finite_json(record), indent=1))
                replace_folder(temporary, final)
                prune(folder, self.config.checkpoint)
            export()

        if self.behind:
            self.pending = self.thread.submit(finished, copied(shares or {}))
        else:
            finished(shares)
            accelerator.wait_for_everyone()

    def check(self) -> None:
        """Raise what went wrong behind the training."""
        if self.pending is not None and self.pending.done():
            self.pending.result()

    def finish(self) -> None:
        """Wait for what is still being written."""
        if self.pending is not None:
            self.pending.result()
            self.pending = None
            self.accelerator.wait_for_everyone()
