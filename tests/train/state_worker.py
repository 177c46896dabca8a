"""Train to the end; on the way write every tensor of what was resumed: `torchrun -m tests.train.state_worker …`.

Arguments: KIND (ddp or fsdp2) FILE, and those of `train/train.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig
from viewtime.log import set_up_logging
from viewtime.train import loop
from viewtime.train.state.checkpoint import checkpoints

from .fsdp2_worker import sharding_accelerator


def main(kind: str, file: Path, arguments: list[str]) -> None:
    config = parse_overrides(TrainConfig, arguments, "state_worker")
    if kind == "fsdp2":
        loop.make_accelerator = sharding_accelerator
    trainer = loop.Trainer(config)
    if checkpoints(Path(config.output) / "checkpoints"):
        assert trainer.resume() is None  # no position in the data for another number of processes
        assert trainer.progress.data_starts == 1
        write_state(trainer, file, kind == "fsdp2")
    trainer.run()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def write_state(trainer: loop.Trainer, file: Path, sharded: bool) -> None:
    whole = {}
    for name, tensor in sorted(trainer.trained.tensors().items()):
        whole[name] = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone().contiguous()
    assert any(isinstance(tensor, DTensor) for tensor in trainer.trained.tensors().values()) == sharded
    if trainer.accelerator.is_main_process:
        save_file(whole, file)


if __name__ == "__main__":
    set_up_logging(False)
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
