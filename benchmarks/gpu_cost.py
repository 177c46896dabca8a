"""What sampling, training steps, fits and metrics cost at full size on a GPU, counted without one.

    python benchmarks/gpu_cost.py --write docs/gpu.md           # every table
    python benchmarks/gpu_cost.py cards fits                    # some of them
    python benchmarks/gpu_cost.py sv4d2 --card 8                # one model

FLOPs, bytes and kernels are those of the operators that PyTorch would launch; the floor takes each operator as slow as
its FLOPs or its bytes on an H200 (790 TFLOP/s, 4.3 TB/s). A real card is slower: launches, less than full speed, host.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_card import FakeCard, fake_card
from benchmarks.fake_gpu import Cost, fake_gpu, human
from benchmarks.gpu_fits import FITS
from benchmarks.gpu_jobs import GRID_MODELS, JOBS, Memory
from benchmarks.gpu_metrics import METRICS
from benchmarks.gpu_training import TRAINING, training_step
from benchmarks.tables import write_table
from viewtime.configs.schema.sample import MemoryOptions
from viewtime.sample.run.memory import PEAKS, PRESETS

COMMAND = "python benchmarks/gpu_cost.py --write docs/gpu.md"
USES = {
    "conditions": ("image_encoder", "frame_encoder", "view_encoder"),
    "step": ("network",),
    "decode": ("decoder",),
}


def part_bytes(module: torch.nn.Module, parts: tuple[str, ...]) -> int:
    """Bytes of some parts of a published model."""
    children = [child for name, child in module.named_children() if name in parts]
    return sum(tensor.numel() * tensor.element_size() for child in children for tensor in child.parameters())


def measure(name: str, card: int | None = None, int8: bool = False) -> tuple[dict[str, Cost], dict[str, int], int]:
    """Cost of each piece of a job, how many of each, and the bytes of the weights."""
    with fake_gpu() as gpu, torch.no_grad():
        options = PRESETS[card] if card else MemoryOptions()
        job = JOBS[name](Memory(options.chunk, options.split_guidance, 1, card, int8))
        gpu.hold(job.module)
        weights = gpu.memory.live
        costs: dict[str, Cost] = {}
        for piece, work in job.pieces.items():
            with gpu.record() as costs[piece]:
                work()
            if options.offload:
                costs[piece].peak -= weights - part_bytes(job.module, USES[piece])
    return costs, job.units, weights


def rows(name: str, costs: dict[str, Cost], units: dict[str, int], weights: int) -> list[str]:
    """Lines of the table."""
    lines = []
    for piece, cost in costs.items():
        times = units[piece]
        lines.append(
            f"| {name} | {piece} | {times} | {cost.kernels} | {human(cost.flops)} | {human(cost.bytes)}B | "
            f"{cost.seconds * times:.3g} s | {cost.peak / 1e9:.1f} GB |"
        )
    total = sum(cost.seconds * units[piece] for piece, cost in costs.items())
    peak = max(cost.peak for cost in costs.values())
    lines.append(
        f"| **{name}** | all, weights {weights / 1e9:.1f} GB | | | | | **{total:.3g} s** | **{peak / 1e9:.1f} GB** |"
    )
    return lines


def card_row(name: str) -> tuple[str, dict[str, int]]:
    """A line of the table of cards, and the peak in bytes of each.

    Args:
        name: of a model, or followed by ", int8".
    """
    model, _, int8 = name.partition(", ")
    peaks = {str(card): max(cost.peak for cost in measure(model, card, bool(int8))[0].values()) for card in PRESETS}
    return f"| {name} | " + " | ".join(f"{peak / 1e9:.1f} GB" for peak in peaks.values()) + " |", peaks


def cost_row(name: str, cost: Cost) -> str:
    """A line of the tables of steps."""
    waits = len(cost.of("synchronisation"))
    return (
        f"| {name} | {cost.kernels} | {human(cost.flops)} | {human(cost.bytes)}B | {1000 * cost.seconds:.3g} ms | "
        f"{cost.peak / 1e9:.2f} GB | {waits} |"
    )


def _sampling(record: dict[str, Any]) -> Iterator[str]:
    yield from ("| model | piece | times | kernels | FLOPs | bytes | floor, all | peak memory |", _line(8, 2))
    for name in JOBS:
        costs, units, weights = measure(name)
        record[name] = {piece: _facts(cost, units[piece]) for piece, cost in costs.items()}
        yield from rows(name, costs, units, weights)


def _cards(record: dict[str, Any]) -> Iterator[str]:
    yield from ("| model | " + " | ".join(f"{card} GB" for card in PRESETS) + " |", _line(1 + len(PRESETS), 1))
    for name in (f"{model}{format}" for model in GRID_MODELS for format in ("", ", int8")):
        line, record[name] = card_row(name)
        yield line


def _steps(names: Iterable[str], step: Callable[[FakeCard, str], Cost], record: dict[str, Any]) -> Iterator[str]:
    yield from ("| | kernels | FLOPs | bytes | floor | peak memory | waits |", _line(7, 1))
    for name in names:
        with fake_card() as card:
            cost = step(card, name)
        record[name] = _facts(cost)
        yield cost_row(name, cost)


def _facts(cost: Cost, times: int = 1) -> dict[str, Any]:
    numbers = {name: value for name, value in vars(cost).items() if name != "faults"}
    return {**numbers, "times": times, "faults": [str(fault) for fault in cost.faults]}


def _line(columns: int, words: int) -> str:
    return "|" + "---|" * words + "--:|" * (columns - words)


TABLES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "sampling": _sampling,
    "cards": _cards,
    "training": partial(_steps, TRAINING, training_step),
    "fits": partial(_steps, FITS, lambda card, name: FITS[name](card)),
    "metrics": partial(_steps, METRICS, lambda card, name: METRICS[name](card)),
}


def main() -> None:
    """Print the tables; write them into a document, and the cards' peaks where `--memory.card` reads them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(TABLES), help=f"of {', '.join(TABLES)}, or of one model")
    parser.add_argument("--card", type=int, choices=PRESETS, help="of one model with a card's memory options")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    record: dict[str, Any] = {}
    for name in arguments.names:
        if name in JOBS:
            print("\n".join(rows(name, *measure(name, arguments.card))), flush=True)
            continue
        record[name], lines = {}, []
        for line in TABLES[name](record[name]):
            print(line, flush=True)
            lines.append(line)
        if arguments.write is not None:
            write_table(arguments.write, name, lines, COMMAND)
        if name == "cards":
            PEAKS.write_text(json.dumps(record[name], indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
