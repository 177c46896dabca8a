"""Start a training run: `accelerate launch train/train.py --config configs/NAME.yaml [--section.key value …]`."""

from __future__ import annotations

import sys
from pathlib import Path

# Started by path, Python looks in this file's folder first; `viewtime` lies one above when it is not installed.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from viewtime.cli import run_command  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(run_command("train", sys.argv[1:], prog="train.py"))
