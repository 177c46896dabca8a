"""What each model costs at full size on a GPU, counted on fake CUDA tensors: no GPU is needed.

    python benchmarks/gpu_cost.py [NAME ...] [--write docs/gpu.md] [--json FILE]

FLOPs, bytes and kernels are those of the operators that PyTorch would launch; the floor takes each operator as slow as
its FLOPs or its bytes on an H200 (790 TFLOP/s, 4.3 TB/s). A real card is slower: launches, less than full speed, host.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_gpu import Cost, fake_gpu, human
from benchmarks.gpu_jobs import JOBS, Memory
from viewtime.configs.schema.sample import MemoryOptions
from viewtime.sample.run.memory import PRESETS, WINDOW_FRAMES

BEGIN, END = "<!-- costs: python benchmarks/gpu_cost.py --write docs/gpu.md -->", "<!-- end of costs -->"
HEAD = "| model | piece | times | kernels | FLOPs | bytes | floor, all | peak memory |"


USES = {
    "conditions": ("image_encoder", "frame_encoder", "view_encoder"),
    "step": ("network",),
    "decode": ("decoder",),
}


def part_bytes(module: torch.nn.Module, parts: tuple[str, ...]) -> int:
    """Bytes of some parts of a published model."""
    children = [child for name, child in module.named_children() if name in parts]
    return sum(tensor.numel() * tensor.element_size() for child in children for tensor in child.parameters())


def measure(name: str, card: int | None = None) -> tuple[dict[str, Cost], dict[str, int], int]:
    """Cost of each piece of a job, how many of each, and the bytes of the weights."""
    with fake_gpu() as gpu, torch.no_grad():
        options = PRESETS[card] if card else MemoryOptions()
        frames = WINDOW_FRAMES.get(card or 0)
        job = JOBS[name](Memory(options.chunk, options.split_guidance, 1, frames))
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


def main() -> None:
    """Print the table; write it between the marks of a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(JOBS), help=f"of {', '.join(JOBS)}")
    parser.add_argument("--card", type=int, choices=PRESETS, help="with the memory options of a card of so many GB")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table, record = [HEAD, "|---|---|--:|--:|--:|--:|--:|--:|"], {}
    for name in arguments.names:
        costs, units, weights = measure(name, card=arguments.card)
        table += rows(name, costs, units, weights)
        record[name] = {
            piece: {**{k: v for k, v in vars(cost).items() if k != "faults"}, "times": units[piece],
                    "faults": [str(fault) for fault in cost.faults]}
            for piece, cost in costs.items()
        }  # fmt: skip
        print("\n".join(table[-len(costs) - 1 :]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1))
    if arguments.write is not None:
        text = arguments.write.read_text()
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        arguments.write.write_text("\n".join([before + BEGIN, "", *table, "", END]) + after)


if __name__ == "__main__":
    main()
