"""`train/train.py` that keeps bfloat16 on a CPU without its instructions: `-m tests.train.reduced_worker ARGUMENTS`."""

from __future__ import annotations

import sys

from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig
from viewtime.log import set_up_logging
from viewtime.train import loop
from viewtime.train.command import run

if __name__ == "__main__":
    set_up_logging(False)
    loop.settle_precision = lambda config: config
    run(parse_overrides(TrainConfig, sys.argv[1:], "reduced_worker"))
