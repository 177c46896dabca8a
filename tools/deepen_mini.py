"""Append layers to a mini network; it computes the same until it is trained on.

python tools/deepen_mini.py viewtime/assets/mini.safetensors 10 runs/deeper.safetensors
accelerate launch train/train.py --model.weights runs/deeper.safetensors --model.config.depth 10 ...
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.deepen import deepened
from viewtime.weight_header import open_weights
from viewtime.weights import read_tensors, save_weights


def main() -> int:
    """Write the deeper network."""
    if len(sys.argv) != 4 or not sys.argv[2].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    source, depth, target = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    try:
        opened = open_weights(source)
        section = opened.config.get("model", {})
        if section.get("name") != "mini":
            raise UserError(f"{source} holds no mini model")
        config = build(MiniConfig, section["config"], where=str(source))
        state, deeper = deepened(dict(read_tensors(opened)), config, depth)
        save_weights(target, state, {**opened.config, "model": {**section, "config": asdict(deeper)}})
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{target}: {config.depth} -> {depth} layers, {sum(t.numel() for t in state.values()):,} parameters")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
