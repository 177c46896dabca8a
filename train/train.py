"""Start a training run: `accelerate launch train/train.py --config configs/NAME.yaml [--section.key value …]`."""

from __future__ import annotations

import sys
from pathlib import Path

# Started by path, Python looks in this file's folder first; `viewtime` lies one above when it is not installed.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from viewtime.configs.overrides import parse_overrides  # noqa: E402
from viewtime.configs.schema.train import TrainConfig  # noqa: E402
from viewtime.errors import UserError  # noqa: E402
from viewtime.log import set_up_logging  # noqa: E402


def main(argv: list[str]) -> int:
    """Exit code 0 done, 1 failed, 2 misuse; one line for the user instead of a traceback."""
    debug = "--debug" in argv
    set_up_logging(debug)
    try:
        config = parse_overrides(TrainConfig, [a for a in argv if a != "--debug"], "train.py")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from viewtime.train.command import run

    try:
        for path in run(config):
            print(path)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
