"""`--dry-run`: what a run would do, without doing it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import torch
import yaml
from torch import nn

from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.run_folder import plain
from viewtime.train.cost import pretended_group, step_cost
from viewtime.train.distributed import reduced_dtype
from viewtime.train.loop import open_stream
from viewtime.train.objective.losses import stage_loss
from viewtime.train.objective.student import teacher_evaluations
from viewtime.train.optimizers import build_optimizer, select_parameters
from viewtime.train.prepare import prepare_model
from viewtime.train.registry import network_of
from viewtime.train.streams.batches import read_batch
from viewtime.train.watch.scale import counts_of, memory_table, roofline

BYTES_FLOAT32 = 4


def parameters_by_part(network: nn.Module) -> dict[str, tuple[int, int]]:
    """First part of the parameter's name -> (all, trained)."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in network.named_parameters():
        part = counts[name.partition(".")[0]]
        part[0] += parameter.numel()
        part[1] += parameter.numel() * parameter.requires_grad
    return {part: (everything, trained) for part, (everything, trained) in counts.items()}


def state_bytes(denoiser: nn.Module, optimizer: torch.optim.Optimizer, lengths: int) -> dict[str, int]:
    """Bytes of one unsharded process's state: weights, gradients, optimiser moments, averages (activations apart)."""
    total = sum(p.numel() for p in denoiser.parameters())
    trained = sum(p.numel() for p in denoiser.parameters() if p.requires_grad)
    moments = sum(
        p.numel() * (1 if group.get("use_muon") and type(optimizer).__name__ == "Muon" else 2)
        for group in optimizer.param_groups
        for p in group["params"]
    )
    return {
        "weights": total * BYTES_FLOAT32,
        "gradients": trained * BYTES_FLOAT32,
        "optimiser": moments * BYTES_FLOAT32,
        "averages": trained * lengths * BYTES_FLOAT32,
    }


def describe(config: TrainConfig) -> str:
    """The resolved config, parameters by part, memory, each stage's first batch and what its step costs."""
    denoiser = prepare_model(config.model)
    scales = select_parameters(denoiser, config.model.train)
    optimizer = build_optimizer(denoiser, config.optimizer, scales)
    lines = [yaml.safe_dump(plain(config), sort_keys=False).rstrip(), "", "parameters (all, trained):"]
    for part, (everything, trained) in parameters_by_part(network_of(denoiser)).items():
        lines.append(f"  {part:24s} {everything:>14,} {trained:>14,}")
    memory = state_bytes(denoiser, optimizer, len(config.ema.lengths))
    lines += ["", "memory of the state per process, unsharded, float32, without activations:"]
    lines += [f"  {name:24s} {size / 1e9:>10.3f} GB" for name, size in memory.items()]
    lines += [f"  {'sum':24s} {sum(memory.values()) / 1e9:>10.3f} GB"]
    counts = counts_of(denoiser, memory["optimiser"] // BYTES_FLOAT32, len(config.ema.lengths))
    kept = 0
    for stage in config.stages:
        batch = read_batch(next(iter(open_stream(config, stage, 0, 1))), torch.device("cpu"))
        shapes = {"x0": batch.x0, **batch.cond}
        lines += ["", f"stage {stage.name}, first batch:"]
        lines += [f"  {key} {list(value.shape)}" for key, value in shapes.items()]
        loss = stage_loss(config, stage)
        sigma = torch.ones(batch.x0.shape[: 1 if loss.known_cells == "ignored" else 3])
        try:
            with pretended_group(network_of(denoiser), config.context_parallel) as sent:
                cost = step_cost(denoiser, batch, sigma, reduced_dtype(config), sent)
        except UserError as error:
            lines.append(f"  {error}")
            continue
        taught = teacher_evaluations(config, loss.kind)
        if taught:
            cost = replace(
                cost,
                flops=cost.flops + int(taught * cost.forward),
                traffic=cost.traffic + int(taught * cost.forward_traffic),
                sent=cost.sent + int(taught * cost.forward_sent),
            )
            lines.append(f"  with {taught:g} evaluations of the teacher:")
        lines += roofline(cost, config.precision, config.optimizer.accumulate, stage.steps)
        lines.append(f"  {cost.kept / 1e9:.3f} GB of activations kept for the backward pass")
        if config.context_parallel > 1:
            micro = f"{config.context_parallel} processes on each grid, a micro-batch"
            lines.append(f"  {cost.sent / 1e9:.3f} GB sent to the others ({micro})")
        kept = max(kept, cost.kept + (memory["weights"] if taught else 0))  # the teacher's, whole on every process
    lines += ["", "GB of each process by strategy and number of GPUs, with those activations, without workspaces:"]
    return "\n".join(lines + memory_table(counts, kept, config.precision))
