"""The part of a parameter that this process holds, and the whole of it, under DDP, ZeRO-3 and FSDP2."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.tensor import DTensor


def local_part(parameter: Tensor) -> Tensor:
    """The tensor to read and write on this process: ZeRO-3's flat shard, FSDP2's local shard, or the whole."""
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor  # type: ignore[attr-defined]
    if isinstance(parameter, DTensor):
        return parameter.to_local()
    return parameter.data


def master_part(parameter: Tensor) -> Tensor:
    """What the optimiser moves of `local_part`, float32: the masters of DeepSpeed's rounded parameters.

    A collective call under ZeRO-1 and ZeRO-2, whose processes hold pieces of the masters.
    """
    if hasattr(parameter, "ds_tensor"):
        from deepspeed.utils import safe_get_local_fp32_param

        master = safe_get_local_fp32_param(parameter)  # None where it is frozen
        return local_part(parameter).detach().float() if master is None else master
    if hasattr(parameter, "_hp_mapping"):
        from deepspeed.utils import safe_get_full_fp32_param

        master = safe_get_full_fp32_param(parameter)
        assert master is not None, "a parameter that DeepSpeed optimises has a master"
        return master
    return local_part(parameter).detach().float()


def write_part(parameter: Tensor, part: Tensor) -> None:
    """Put this process's share into the parameter that the forward pass reads.

    Small parameters stay whole on every process under ZeRO-3 (`stage3_param_persistence_threshold`): both are written,
    a collective call.
    """
    own = local_part(parameter)
    own.copy_(part.view_as(own))
    if getattr(getattr(parameter, "ds_status", None), "name", "") == "AVAILABLE":
        parameter.data.copy_(whole(parameter, own))


def whole(parameter: Tensor, part: Tensor) -> Tensor:
    """The full tensor of which `part` is this process's share, laid out as `parameter` is. A collective call."""
    if hasattr(parameter, "ds_tensor"):
        pieces = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(pieces, part.contiguous())
        flat = torch.cat(pieces)[: parameter.ds_numel]  # type: ignore[attr-defined]
        return flat.view(parameter.ds_shape)  # type: ignore[attr-defined]
    part = as_sharded(parameter, part)
    return part.full_tensor() if isinstance(part, DTensor) else part


def as_sharded(parameter: Tensor, part: Tensor) -> Tensor:
    """`part` of this process as a DTensor laid out as FSDP2's parameter; as it is where others shard or nobody does."""
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def full_numel(parameter: Tensor) -> int:
    """Number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
