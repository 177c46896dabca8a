"""What a training step computes, moves and keeps, counted on shapes alone: nothing is calculated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    register_flop_formula,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from viewtime.errors import UserError, first_line
from viewtime.model.shares import GridShares
from viewtime.train.distributed import share_grid
from viewtime.train.streams.batches import Batch

aten = torch.ops.aten

if aten._scaled_dot_product_flash_attention_for_cpu not in flop_registry:  # PyTorch has only CUDA's

    @register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu)
    def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    @register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu_backward)
    def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, silent, with attention on the CPU."""
    return FlopCounterMode(display=False)


@dataclass(frozen=True)
class StepCost:
    """Of one micro-batch in one process, forward and backward, recomputed activations included.

    Attributes:
        flops: of matrix products, convolutions and attention.
        forward: those of the forward pass alone.
        traffic: bytes that the operators read and write one by one; fused kernels move less.
        forward_traffic: those of the forward pass alone.
        kept: bytes of activations that the forward pass keeps for the backward pass.
        sent: bytes to the processes that share the grid.
        forward_sent: those of the forward pass alone.
    """

    flops: int
    forward: int
    traffic: int
    forward_traffic: int
    kept: int
    sent: int = 0
    forward_sent: int = 0


class _Traffic(TorchDispatchMode):
    """Sums the bytes of every operator's tensors, but for those that only look at memory differently."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        looks = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not looks:
            tensors = [value for value in tree_flatten((args, kwargs, out))[0] if isinstance(value, Tensor)]
            self.bytes += sum(value.numel() * value.element_size() for value in tensors)
        return out


class _Step(nn.Module):
    """Forward and backward of a denoiser in one call, so that its parameters stay replaced until the end."""

    def __init__(self, denoiser: nn.Module, dtype: torch.dtype | None, half_way: Callable[[], None]) -> None:
        super().__init__()
        self.denoiser, self.dtype, self.half_way = denoiser, dtype, half_way
        self.kept: dict[int, int] = {}

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Tensor]) -> None:
        own = {parameter.untyped_storage()._cdata for parameter in self.denoiser.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                self.kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if self.dtype is None:
                denoised = self.denoiser(x, sigma, cond)
            else:
                with torch.autocast("cpu", self.dtype):
                    denoised = self.denoiser(x, sigma, cond)
            self.half_way()
            loss = (denoised.float() - x).square().mean()
        trained = [parameter for parameter in self.denoiser.parameters() if parameter.requires_grad]
        torch.autograd.grad(loss, trained, allow_unused=True)


@dataclass
class Sent:
    """What a process has sent to those that share its grids, in bytes."""

    bytes: int = 0


@dataclass(frozen=True)
class CountedShares(GridShares):
    """Notes what a process sends, as GPUs do it: of what it exchanges it keeps its part, its part of a whole goes to
    everybody, and a gradient takes the same way back."""

    sent: Sent

    def exchange(self, x: Tensor, held: int, wanted: int, size: int | None = None) -> Tensor:
        """See `GridShares`."""
        count = self.mesh.size()
        return self._noted(super().exchange(x, held, wanted, size), x.nbytes * (count - 1) // count)

    def whole(self, x: Tensor, held: int) -> Tensor:
        """See `GridShares`."""
        return self._noted(super().whole(x, held), x.nbytes * (self.mesh.size() - 1))

    def _noted(self, result: Tensor, size: int) -> Tensor:
        def note(_: Tensor | None = None) -> None:
            self.sent.bytes += size

        note()
        if result.requires_grad:
            result.register_hook(note)
        return result


@contextlib.contextmanager
def pretended_group(network: nn.Module, count: int) -> Iterator[Sent]:
    """Have `count` processes share the network's grids: this one, and others that are not there; yields what it sends.

    Raises:
        UserError: the network cannot be shared.
    """
    sent = Sent()
    if count == 1:
        yield sent
        return
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    try:
        share_grid(network, CountedShares(init_device_mesh("cpu", (count,)), sent))
        yield sent
    finally:
        torch.distributed.destroy_process_group()


def step_cost(
    denoiser: nn.Module, batch: Batch, sigma: Tensor, dtype: torch.dtype | None, sent: Sent | None = None
) -> StepCost:
    """Count one micro-batch.

    Args:
        denoiser: on the CPU, or on the meta device without any memory.
        sigma: noise levels as the denoiser takes them, [B] or [B, V, F].
        dtype: of the products, as under autocast; None: float32.
        sent: of the `pretended_group` that shares the grid.

    Raises:
        UserError: the network reads numbers that it has computed, so that shapes alone do not tell its way.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def pretended(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")

    flops, traffic, sent = flop_counter(), _Traffic(), sent or Sent()
    forward: list[int] = []
    step = _Step(denoiser, dtype, lambda: forward.extend([flops.get_total_flops(), traffic.bytes, sent.bytes]))
    state = {**dict(step.named_parameters()), **dict(step.named_buffers())}
    with mode:
        made = {name: pretended(value).requires_grad_(value.requires_grad) for name, value in state.items()}
        inputs = tree_map(pretended, (batch.x0, sigma, batch.cond))
        with flops, traffic, torch.compiler.set_stance("force_eager"):
            try:
                torch.func.functional_call(step, made, inputs)
            except (DataDependentOutputException, RuntimeError) as error:
                reason = first_line(error)
                raise UserError(f"the step cannot be counted by its shapes alone: {reason}") from error
    kept = sum(step.kept.values())
    return StepCost(flops.get_total_flops(), forward[0], traffic.bytes, forward[1], kept, sent.bytes, forward[2])
