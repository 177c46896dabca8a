"""From a trained base model to the starting weights of a grid model.

    python -m viewtime.model.four_real.assemble BASE.safetensors GRID.safetensors --variant soft

The grid model takes over the base model's blocks; its own layers are at their initial values, which for the soft
variant is the training-free synchronisation of Eq. 13.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.model.four_real.base import BaseVideoModel
from viewtime.model.four_real.config import VARIANTS, BaseConfig, GridConfig, Variant
from viewtime.model.four_real.grid import GridModel
from viewtime.model.registry import resolved_config
from viewtime.weights import load_weights, read_header, save_weights


def grid_from_base(base_file: str | Path, variant: Variant) -> GridModel:
    """A grid model around the base model of a weight file.

    Raises:
        UserError: the file holds no 4Real base model.
    """
    record, _ = read_header(base_file)
    section = record.get("model")
    if not isinstance(section, dict) or section.get("name") != "4real-base":
        raise UserError(f"{base_file} holds no 4real-base model; its metadata names {section!r}")
    config = build(BaseConfig, section["config"], f"{base_file}: model.config")
    base = load_weights(lambda: BaseVideoModel(config), base_file, dtype=torch.float32)
    grid = GridModel(GridConfig(config, variant))
    grid.load_base(base.state_dict())
    return grid


def write_grid(base_file: str | Path, grid_file: str | Path, variant: Variant) -> Path:
    """Write the starting weights of a grid model."""
    grid = grid_from_base(base_file, variant)
    record = {"model": {"name": "4real", "config": resolved_config(grid)}, "made_from": Path(base_file).name}
    return save_weights(grid_file, grid.state_dict(), record)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 ok, 1 failed, 2 misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m viewtime.model.four_real.assemble",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, help="weights of a trained 4real-base model")
    parser.add_argument("grid", type=Path, help="file to write")
    parser.add_argument("--variant", choices=VARIANTS, default="soft")
    arguments = parser.parse_args(argv)
    try:
        print(write_grid(arguments.base, arguments.grid, arguments.variant))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
