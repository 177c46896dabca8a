"""What a run asks of GPUs: memory of each process by strategy, and the least time of a step on a card.

The parts are counted, not measured: weights, gradients, moments and averages as each strategy divides them, and the
activations that a step keeps (`viewtime.train.cost`). Workspaces, fragmentation and communication come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from viewtime.configs.schema.train import Precision
from viewtime.train.cost import StepCost
from viewtime.train.prepare import repeated_blocks
from viewtime.train.registry import network_of

FULL = 4  # bytes of a float32
STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "fsdp2")


@dataclass(frozen=True)
class Card:
    """A GPU's rates by its maker: dense products in bfloat16 and in float32, FLOP/s; memory, bytes/s and bytes."""

    reduced: float
    full: float
    bandwidth: float
    memory: float


CARDS = {"H100": Card(989e12, 67e12, 3.35e12, 80e9), "H200": Card(989e12, 67e12, 4.8e12, 141e9)}


@dataclass(frozen=True)
class Counts:
    """Numbers of a model and its training.

    Attributes:
        total, trained: parameters.
        block: those of the largest block that FSDP gathers at once.
        moments: numbers of the optimiser's state.
        averages: numbers of all averages together.
    """

    total: int
    trained: int
    block: int
    moments: int
    averages: int


def counts_of(denoiser: nn.Module, moments: int, lengths: int) -> Counts:
    """Counted on a whole model."""
    total = sum(p.numel() for p in denoiser.parameters())
    trained = sum(p.numel() for p in denoiser.parameters() if p.requires_grad)
    blocks = repeated_blocks(network_of(denoiser))
    largest = max((sum(p.numel() for p in block.parameters()) for block in blocks), default=total)
    return Counts(total, trained, largest, moments, trained * lengths)


def state_bytes(counts: Counts, strategy: str, world: int, precision: Precision) -> float:
    """Bytes of one process's weights, gradients, moments and averages, between steps.

    DDP and FSDP2 keep float32 weights, which autocast or gathering rounds. DeepSpeed keeps rounded weights on every
    process and float32 masters in pieces; its averages are whole but under ZeRO-3.
    """
    short = FULL if precision == "fp32" else FULL // 2
    share = 1 / world
    if strategy == "ddp":  # gradients once more in the buckets that are sent
        return FULL * (counts.total + 2 * counts.trained + counts.moments + counts.averages)
    if strategy == "fsdp2":
        sharded = FULL * (counts.total + counts.trained + counts.moments + counts.averages) * share
        return sharded + 2 * short * counts.block  # one block in use, the next on its way
    masters = FULL * (counts.trained + counts.moments) * share
    if strategy == "zero3":
        parts = (short * (counts.total + counts.trained) + FULL * counts.averages) * share
        return masters + parts + 2 * short * counts.block
    gradients = short * counts.trained * (1 if strategy == "zero1" else share)
    return masters + short * counts.total + gradients + FULL * counts.averages


def memory_table(counts: Counts, kept: int, precision: Precision, worlds: tuple[int, ...] = (8, 16, 64)) -> list[str]:
    """Lines: strategy, and GB of a process for each number of GPUs."""
    lines = [f"  {'GPUs':8s}" + "".join(f"{world:>9d}" for world in worlds)]
    for strategy in STRATEGIES:
        sizes = (state_bytes(counts, strategy, world, precision) + kept for world in worlds)
        lines.append(f"  {strategy:8s}" + "".join(f"{size / 1e9:>9.2f}" for size in sizes))
    return lines


def roofline(cost: StepCost, precision: Precision, micro_batches: int, steps: int | None) -> list[str]:
    """Lines: a step's work, its FLOP per byte, and on each card the least time, and that of the operators' traffic."""
    flops, traffic = cost.flops * micro_batches, cost.traffic * micro_batches
    lines = [
        f"  {flops / 1e12:.3f} TFLOP and at most {traffic / 1e9:.2f} GB a step and process "
        f"({flops / max(traffic, 1):.0f} FLOP/byte unfused)"
    ]
    for name, card in CARDS.items():
        peak = card.full if precision == "fp32" else card.reduced
        least = flops / peak
        whole = f", the run at least {least * steps / 3600:.2f} h" if steps else ""
        lines.append(
            f"  {name}: at least {least * 1e3:.2f} ms a step for its products{whole}; unfused traffic takes "
            f"{traffic / card.bandwidth * 1e3:.2f} ms (balance at {peak / card.bandwidth:.0f} FLOP/byte)"
        )
    return lines
