"""A GPU that is not there: full-size runs on fake CUDA tensors, checked and counted operator by operator.

Nothing is computed and nothing allocated: PyTorch's `FakeTensorMode` follows shapes, dtypes and devices. Every
operator passes `Recorder`, which collects what would fail or wait on a real card (`Fault`) and adds up kernels, FLOPs,
bytes and live memory (`Cost`). What fake tensors cannot see, because it hangs on values, runs on the strict device
(`tests/recon/strict_device.py`).

    with fake_gpu() as gpu:
        model = build().to("cuda")          # weights of any size
        with gpu.record() as run:
            model(torch.empty(..., device="cuda"))
    assert not run.faults
"""

from __future__ import annotations

import math
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
LARGEST_LAUNCH = 65535  # of a launch's y and z axes
LARGEST_INDEX = 2**31 - 1
ALLOCATION = 512  # bytes; PyTorch's allocator rounds up to it
INSTRUMENTS = ("fake_gpu.py", "fake_card.py", "strict_device.py")
H200_FLOPS, H200_BYTES = 790e12, 4.3e12  # per second: dense half precision, and memory

READS_VALUES = {  # the host waits for the device before it can go on
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten.is_nonzero.default, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default,
    aten.bincount.default, aten.repeat_interleave.Tensor, aten.allclose.default,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What would go wrong on a card: kind is "mixed device", "float64", "synchronisation", "launch" or "index"."""

    kind: str
    operator: str
    detail: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.operator} {self.detail} at {self.place}"


@dataclass
class Cost:
    """Sums over the kernels of a run.

    Attributes:
        kernels: operators that launch something; views are free.
        flops, bytes: multiplications and additions; read and written memory, inputs and outputs of each operator.
        seconds: floor on an H200, each operator as slow as its FLOPs or its bytes; no overlap, no launch overhead.
        peak: most bytes alive at once on the device, weights included; workspaces and fragmentation are not.
    """

    kernels: int = 0
    flops: int = 0
    bytes: int = 0
    seconds: float = 0.0
    peak: int = 0
    faults: list[Fault] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Fault]:
        """Faults of some kinds."""
        return [fault for fault in self.faults if fault.kind in kinds]


class Memory:
    """Live bytes of fake CUDA storages."""

    def __init__(self) -> None:
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type != "cuda" or key in self._sizes:
            return
        size = -(-storage.nbytes() // ALLOCATION) * ALLOCATION
        self._sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


class Recorder(TorchDispatchMode):
    """Sees every operator before the fake mode does; `watch` is told each kernel's operator and bytes."""

    def __init__(self, memory: Memory, watch: Callable[[Any, int], None] | None = None) -> None:
        super().__init__()
        self.cost, self.memory, self.watch = Cost(), memory, watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        self._check_inputs(func, args, before)
        result = func(*args, **kwargs)
        after = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        for tensor in after:
            self.memory.see(tensor)
        self.cost.peak = self.memory.peak
        if after and not (func.is_view or func.namespace == "prim"):
            self._check_outputs(func, before, after)
            self._count(func, args, kwargs, result, before, after)
        return result

    def fault(self, kind: str, operator: object, detail: str) -> None:
        """Note a fault with the line of ours that led to it."""
        name = str(operator)
        self.cost.faults.append(Fault(kind, name, detail, _place()))

    def _check_inputs(self, func: Any, args: Any, before: list[Tensor]) -> None:
        cuda = [tensor for tensor in before if tensor.device.type == "cuda"]
        if not cuda:
            return
        if func in READS_VALUES:
            self.fault("synchronisation", func, str([tuple(tensor.shape) for tensor in cuda]))
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.fault("synchronisation", func, "the host counts a mask's trues")
            foreign = [str(index.device) for index in indices if index.device != args[0].device]
            if foreign:  # CUDA fetches indices from the host by itself
                kind = "upload" if args[0].device.type == "cuda" else "mixed device"
                self.fault(kind, func, f"{args[0].device} indexed by {foreign}")
        elif func not in (aten._to_copy.default, aten.copy_.default):
            foreign = [tensor for tensor in before if tensor.device.type == "cpu" and tensor.ndim > 0]
            if foreign:
                self.fault("mixed device", func, f"cuda and {[tuple(tensor.shape) for tensor in foreign]} on the cpu")

    def _check_outputs(self, func: Any, before: list[Tensor], after: list[Tensor]) -> None:
        for tensor in after:
            if tensor.device.type != "cuda":
                if any(source.device.type == "cuda" for source in before):
                    self.fault("synchronisation", func, f"{tuple(tensor.shape)} goes to the host")
                continue
            if tensor.dtype in (torch.float64, torch.complex128):
                self.fault("float64", func, str(tuple(tensor.shape)))
            if tensor.numel() > LARGEST_INDEX:
                self.fault("index", func, f"{tuple(tensor.shape)} has {tensor.numel()} elements")
        if func not in (aten._to_copy.default, aten.copy_.default, aten.lift_fresh.default):
            return
        target = after[0]
        if target.device.type == "cuda" and before and any(source.device.type == "cpu" for source in before):
            self.fault("upload", func, f"{tuple(target.shape)} comes from the host")

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any, before: list[Tensor], after: list[Tensor]) -> None:
        if after[0].device.type != "cuda":
            return
        moved = sum(tensor.numel() * tensor.element_size() for tensor in (*before, *after))
        packet = func._overloadpacket
        flops = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
        self.cost.kernels += 1
        self.cost.flops += flops
        self.cost.bytes += moved
        self.cost.seconds += max(flops / H200_FLOPS, moved / H200_BYTES)
        if self.watch is not None:
            self.watch(packet, moved)


class Attention(TorchFunctionMode):
    """Sends attention to the kernel that a card would choose; fake tensors would take the plain product instead."""

    def __init__(self, recorder: Callable[[], Recorder | None]) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or args[0].device.type != "cuda":
            return func(*args, **kwargs)
        recorder = self.recorder()
        query = args[0]
        if recorder is not None and max(query.shape[0], query.shape[1]) > LARGEST_LAUNCH:
            recorder.fault("launch", func.__name__, f"{tuple(query.shape)}: {query.shape[0]} sequences at once")
        if kwargs.get("attn_mask") is not None or (len(args) > 3 and args[3] is not None):
            return func(*args, **kwargs)
        if query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] <= 256:
            return aten._scaled_dot_product_flash_attention(*args[:3])[0]
        return aten._scaled_dot_product_efficient_attention(*args[:3], None, query.requires_grad)[0]


@dataclass
class FakeGPU:
    """What `fake_gpu` yields."""

    mode: FakeTensorMode
    memory: Memory
    recorder: Recorder | None = None

    @contextmanager
    def record(self, watch: Callable[[Any, int], None] | None = None) -> Iterator[Cost]:
        """Check and count what runs inside; the peak starts from what is alive. See `Recorder` for `watch`."""
        assert self.recorder is None, "recordings do not nest"
        self.memory.peak = self.memory.live
        self.recorder = Recorder(self.memory, watch)
        try:
            with self.recorder:
                yield self.recorder.cost
        finally:
            self.recorder = None

    def hold(self, module: torch.nn.Module) -> torch.nn.Module:
        """Count a module's weights among what is alive."""
        for tensor in (*module.parameters(), *module.buffers()):
            self.memory.see(tensor)
        return module


@contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """Inside, tensors on "cuda" may be made on any machine, and none takes memory."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    gpu = FakeGPU(mode, Memory())
    with mode, Attention(lambda: gpu.recorder):
        yield gpu


def _place() -> str:
    """file:line of the innermost frame of the project's packages."""
    for frame in reversed(traceback.extract_stack()[:-3]):
        library = "site-packages" in frame.filename or "/python3." in frame.filename or frame.filename[0] == "<"
        if not library and not frame.filename.endswith(INSTRUMENTS):
            return "/".join(frame.filename.split("/")[-2:]) + f":{frame.lineno}"
    return "?"


def human(value: float) -> str:
    """1.23e12 -> "1.23 T"."""
    if value <= 0:
        return "0"
    power = min(int(math.log10(value) // 3), 5)
    return f"{value / 1000**power:.3g} {['', 'k', 'M', 'G', 'T', 'P'][power]}".rstrip()
