"""The accelerator, and the guards against launches that silently train something else than what was asked."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy

from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError, require
from viewtime.log import log
from viewtime.model.shares import GridShares
from viewtime.train.streams.batches import Batch

SAME_BATCH = 1e-5  # relative difference of two batches' means
LET_GO_SECONDS = 0.5


def make_accelerator(config: TrainConfig) -> Any:
    """An `accelerate.Accelerator` for this launch.

    Without CUDA the process group is gloo, also under DeepSpeed; accelerate chooses no backend there by itself.

    Raises:
        UserError: the launch set up fewer processes than it started, or asks for what the CPU cannot do.
    """
    accelerate = require("accelerate", "train")
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    if cpu and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UserError("FSDP was asked for, but accelerate shards on a GPU only; use DDP or DeepSpeed on the CPU")
    wait = timedelta(minutes=config.wait_minutes)
    handlers: list[Any] = []
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed looks for a GPU, and says so, at every save
    if cpu and world > 1:
        handlers.append(accelerate.InitProcessGroupKwargs(backend="gloo", timeout=wait))
        if not deepspeed:
            os.environ["ACCELERATE_USE_CPU"] = "true"
    elif world > 1:
        handlers.append(accelerate.InitProcessGroupKwargs(timeout=wait))
    if cpu and config.precision == "fp16":
        raise UserError("precision fp16 needs a GPU; use bf16 or fp32 on the CPU")
    precision = "no" if config.precision == "fp32" else config.precision
    accelerator = accelerate.Accelerator(
        cpu=cpu and not deepspeed,
        mixed_precision=precision,
        gradient_accumulation_steps=config.optimizer.accumulate,
        kwargs_handlers=handlers,
        log_with=config.tracking.trackers or None,
        project_dir=config.output,
    )
    check_world(accelerator.num_processes)
    if strategy(accelerator) in ("deepspeed", "fsdp") and config.optimizer.name == "muon":
        raise UserError("Muon needs whole matrices, DeepSpeed and FSDP shard them: set optimizer.name to adamw")
    if deepspeed:
        set_up_deepspeed(accelerator, config)
    elif strategy(accelerator) == "fsdp":
        set_up_fsdp(accelerator, config)
    return accelerator


def settle_precision(config: TrainConfig) -> TrainConfig:
    """The config with the precision that this machine is fast in; says so where it is another.

    A CPU without bfloat16 instructions emulates them: a training step took 8.6 times as long as in float32.
    """
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.precision != "bf16" or not on_cpu or multiplies_bfloat16():
        return config
    log.warning("precision bf16: this processor has no bfloat16 instructions, which are emulated; training in fp32")
    return replace(config, precision="fp32")


def multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 products (AVX-512 BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def reduced_dtype(config: TrainConfig) -> torch.dtype | None:
    """The type of the forward pass; None for float32."""
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


def set_up_fsdp(accelerator: Any, config: TrainConfig) -> None:
    """Weights gathered in the run's precision; inputs, outputs and gradient sums stay float32.

    Raises:
        UserError: FSDP1, whose flattened parameters our parameter groups and averages do not fit.
    """
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise UserError("FSDP version 1 is not supported: set fsdp_version: 2, as configs/launch/gpu8-fsdp2.yaml does")
    dtype = reduced_dtype(config)
    if dtype is not None:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )


def let_go() -> None:
    """To be called after the last collective, before the process group is destroyed: waits for gloo's threads.

    They drop the last tensors a moment after a collective is done, and need the interpreter for it: one that comes
    when the interpreter shuts down aborts the process, -6 after a good run. Destroying the group does not join them,
    as DTensor's caches keep it.
    """
    time.sleep(LET_GO_SECONDS)


def check_world(processes: int) -> None:
    """Raise UserError unless as many processes train together as the launcher started."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if processes != world:
        raise UserError(
            f"{world} processes were launched, but they train as {processes}; "
            "launch with one of the files of configs/launch"
        )


def set_up_deepspeed(accelerator: Any, config: TrainConfig) -> None:
    """What DeepSpeed otherwise reads from a data loader, and our clipping."""
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings["train_micro_batch_size_per_gpu"] = config.stages[0].batch_size
    settings["gradient_accumulation_steps"] = config.optimizer.accumulate
    settings["train_batch_size"] = config.stages[0].batch_size * config.optimizer.accumulate * accelerator.num_processes
    if config.optimizer.clip_norm > 0:
        settings["gradient_clipping"] = config.optimizer.clip_norm
    settings["zero_allow_untested_optimizer"] = True
    settings.setdefault("communication_data_type", "fp32")  # gradients of bfloat16 weights are summed in full
    for name in ("bf16", "fp16"):
        settings.setdefault(name, {})["enabled"] = config.precision == name
    settings["bf16"]["check_grad_overflow"] = True  # the engine then leaves out steps with non-finite gradients
    if settings.get("zero_optimization", {}).get("stage") == 3:
        settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def strategy(accelerator: Any) -> str:
    """ "single", "ddp", "deepspeed" or "fsdp"."""
    kind = str(accelerator.distributed_type).rpartition(".")[2].lower()
    if kind in ("deepspeed", "fsdp"):
        return kind
    return "ddp" if accelerator.num_processes > 1 else "single"


def check_prepared(accelerator: Any, module: nn.Module) -> None:
    """Raise UserError if several processes train a module that nothing synchronises."""
    wrapped = strategy(accelerator) != "ddp" or isinstance(module, nn.parallel.DistributedDataParallel)
    if not wrapped:
        raise UserError("several processes, but the model is not synchronised between them; use another strategy")


def readers(accelerator: Any, config: TrainConfig) -> tuple[int, int]:
    """(number, count) of those who read data: a process, or all that share its grids (`context_parallel`)."""
    return accelerator.process_index // config.context_parallel, accelerator.num_processes // config.context_parallel


def grid_shares(accelerator: Any, config: TrainConfig) -> GridShares | None:
    """The neighbouring processes that work on each grid together, as many as the config says; None: each on its own.

    Raises:
        UserError: the number of processes is no multiple of that.
    """
    count, world = config.context_parallel, accelerator.num_processes
    if count == 1:
        return None
    if world % count:
        raise UserError(f"context_parallel {count} does not divide the number of processes, {world}")
    mesh = init_device_mesh(accelerator.device.type, (world // count, count), mesh_dim_names=("data", "context"))
    return GridShares(mesh["context"])


def share_grid(network: nn.Module, shares: GridShares | None) -> None:
    """Have a network's grids shared, if they are; UserError if it cannot do so."""
    if shares is None:
        return
    share = getattr(network, "share_grid", None)
    if share is None:
        raise UserError(
            f"context_parallel {shares.mesh.size()}: a {type(network).__name__} cannot be shared between processes; "
            "4real, 4real-upsampler and SV4D's family can"
        )
    share(shares)


def check_same_batch(batch: Batch, shares: GridShares | None) -> None:
    """Raise UserError where processes that share a grid have read different ones; a collective call.

    Else each would compute some views of another grid, and the loss would fall all the same. Means and mean squares are
    compared, as two machines may render or encode with another last digit.
    """
    if shares is None:
        return
    values = [value.double() for value in (batch.x0, *batch.cond.values())]
    means = torch.stack([mean for value in values for mean in (value.mean(), value.square().mean())])
    ends = torch.cat([means, -means])
    torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX, shares.mesh.get_group())
    largest, smallest = ends[: len(means)], -ends[len(means) :]
    if bool((largest - smallest > SAME_BATCH * (1 + largest.abs())).any()):
        raise UserError(
            f"context_parallel {shares.mesh.size()}: the processes that share a grid have read different ones "
            f"({', '.join(batch.ids[:4])} is one): the data stream must depend on its rank, world and seed alone; look "
            "for a sample that only one of them could read"
        )


def agreed_maximum(accelerator: Any, values: list[float]) -> list[float]:
    """Element-wise maximum over the processes (one collective call)."""
    if accelerator.num_processes == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return tensor.tolist()
