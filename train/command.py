"""`viewtime train` and `train/train.py`: from the resolved config to a run."""

from __future__ import annotations

import contextlib
import gc
import signal
from pathlib import Path

from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import Stopped
from viewtime.run_lock import alone_in


def run(config: TrainConfig) -> list[Path]:
    """Train, or print what would be trained; returns the paths written."""
    from viewtime.train.distributed import let_go
    from viewtime.train.loop import Trainer

    if config.dry_run:
        from viewtime.train.dry_run import describe

        print(describe(config))
        return []
    trainer = Trainer(config)
    accelerator, folder = trainer.accelerator, trainer.folder
    try:
        with alone_in(folder) if accelerator.is_main_process else contextlib.nullcontext():
            step = trainer.run().step
        stopped_by = trainer.stopped_by
    finally:
        # DeepSpeed's ZeRO-3 aborts the interpreter at exit if its engine is still alive.
        trainer.model, trainer.optimizer = accelerator.free_memory(trainer.model, trainer.optimizer)
        del trainer
        gc.collect()
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        let_go()
        accelerator.end_training()
    if stopped_by:
        name = signal.Signals(stopped_by).name
        raise Stopped(f"stopped by {name} at step {step}; the same command resumes", stopped_by)
    names = ("weights.safetensors", "metrics.jsonl", "config.yaml", "checkpoints")
    return [folder / name for name in names if (folder / name).exists()] if accelerator.is_main_process else []
