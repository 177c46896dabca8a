"""Gradients of the first step, by one process or several: `python -m tests.train.gradient_worker BATCH FILE FOLDER`."""

from __future__ import annotations

import copy
import sys

from safetensors.torch import save_file

from viewtime.configs.load import build
from viewtime.configs.schema.train import TrainConfig
from viewtime.train.loop import Trainer, open_stream, stage_loss

from .conftest import TINY


def main(batch_size: int, path: str, folder: str) -> None:
    mapping = copy.deepcopy(TINY) | {"output": folder}
    mapping["stages"] = [{"name": "only", "lr": 1e-3, "batch_size": batch_size, "steps": 1}]
    config = build(TrainConfig, mapping)
    trainer = Trainer(config)
    accelerator, stage = trainer.accelerator, config.stages[0]
    stream = open_stream(config, stage, accelerator.process_index, accelerator.num_processes)
    loss = stage_loss(config, stage)
    batch = trainer.next_batch(iter(stream), loss, first=True)
    value, _, _ = trainer.loss_of(batch, loss, stage, 0)
    accelerator.backward(value)
    gradients = {n: p.grad.contiguous() for n, p in trainer.module.named_parameters() if p.grad is not None}
    assert len(gradients) > 20
    if accelerator.is_main_process:
        save_file(gradients, path)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
