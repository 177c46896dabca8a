"""Weights for inference out of a checkpoint's shards, by one process: `python -m viewtime.train.export STEP FILE`.

    python -m viewtime.train.export runs/sv4d/checkpoints/step_00010000 sv4d.safetensors [--ema 0.05 | --ema none]

For an older checkpoint, another average than the run exports, or a run that was launched on many processes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from viewtime.configs.load import build
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.json_files import read_json
from viewtime.log import set_up_logging
from viewtime.train.optimizers import select_parameters
from viewtime.train.prepare import prepare_model
from viewtime.train.state.checkpoint import (
    DAMAGE,
    RECORD,
    SHARDS,
    CheckpointRecord,
    damage,
    gathered_weights,
    weight_record,
)
from viewtime.train.state.ema import PowerEma
from viewtime.train.state.engine import recut
from viewtime.train.state.parts import Trained
from viewtime.weights import save_weights


def export_checkpoint(folder: Path, file: Path, length: float | str | None = "run") -> Path:
    """Write the weights of one checkpoint.

    Args:
        length: of the average; None: the weights themselves; "run": what the run exports.

    Raises:
        UserError: no checkpoint there, a damaged one, no such average, or DeepSpeed's weights without one.
    """
    if not (folder / RECORD).is_file():
        raise UserError(
            f"{folder} is no checkpoint ({RECORD} is not there); give a folder step_… of a run's checkpoints"
        )
    record = read_json(folder / RECORD, CheckpointRecord)
    config = build(TrainConfig, record.config, str(folder))
    lengths = config.ema.lengths
    if length == "run":
        length = config.ema.export if config.ema.export is not None else (lengths[0] if lengths else None)
    if length is not None and length not in lengths:
        raise UserError(f"--ema {length}: {folder} has averages of {', '.join(map(str, lengths)) or 'no length'}")
    module = prepare_model(config.model)
    select_parameters(module, config.model.train)
    ema = PowerEma(module, lengths)
    try:
        if (folder / SHARDS).is_dir():
            Trained({"model": module}, {}, ema).load(folder / SHARDS, None)
        else:
            _engine_averages(folder, module, ema, length)
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{folder} is damaged: {damage(error)}") from error
    chosen = length if isinstance(length, float) else None
    tensors = gathered_weights(module, ema, chosen, config, keep=True)
    return save_weights(file, tensors, weight_record(module, config, chosen, record.progress))


def _engine_averages(folder: Path, module: nn.Module, ema: PowerEma, length: object) -> None:
    """DeepSpeed's: averages as each process wrote them, whole ones once (ZeRO-1, 2) or flat pieces (ZeRO-3)."""
    if length is None or any(not p.requires_grad for p in module.parameters()):
        raise UserError(
            f"{folder} is DeepSpeed's: its weights without an average, or of a partly frozen model, are put together "
            "by the zero_to_fp32.py that DeepSpeed wrote into it"
        )
    count = len(list(folder.glob("ema_*.safetensors")))
    pieces = [load_file(folder / f"ema_{rank}.safetensors") for rank in range(count)]
    parameters = dict(module.named_parameters())
    state = {}
    for key in pieces[0]:
        parameter = parameters[key.partition("/")[2]]
        state[key] = recut([piece[key] for piece in pieces], parameter.numel(), 0, 1).view_as(parameter)
    ema.load_state_dict(state)


def main(argv: list[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="viewtime.train.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--ema", default="run", help="length of the average, or none; default: what the run exports")
    options = parser.parse_args(argv)
    set_up_logging(False)
    try:
        length = options.ema if options.ema == "run" else None if options.ema == "none" else float(options.ema)
        print(export_checkpoint(options.checkpoint, options.file, length))
    except (UserError, ValueError) as error:
        print(f"viewtime.train.export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
