"""`train/train.py` under FSDP2 on the CPU: `torchrun -m tests.train.fsdp2_worker ARGUMENTS`.

accelerate chooses FSDP2 on a GPU only. Here its choice is made by hand, behind the loop's back; everything after it
(`accelerator.prepare`, clipping, sharded checkpoints, our averages and export) is what runs on GPUs.
"""

from __future__ import annotations

import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig
from viewtime.log import set_up_logging
from viewtime.train import loop
from viewtime.train.command import run
from viewtime.train.distributed import set_up_fsdp

make_accelerator = loop.make_accelerator


def sharding_accelerator(config: TrainConfig) -> Any:
    accelerator = make_accelerator(config)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        state_dict_type="SHARDED_STATE_DICT",
        cpu_ram_efficient_loading=False,
    )
    for state in (PartialState(), accelerator.state):  # the second is refreshed from the first
        state.distributed_type = DistributedType.FSDP
    set_up_fsdp(accelerator, config)
    return accelerator


if __name__ == "__main__":
    set_up_logging(False)
    loop.make_accelerator = sharding_accelerator
    run(parse_overrides(TrainConfig, sys.argv[1:], "fsdp2_worker"))
