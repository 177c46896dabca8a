"""A card for whole steps that is not there: losses, gradients and optimisers at full size, nothing computed.

PyTorch's autograd engine refuses fake tensors on "cuda" where no driver is. Here a tensor is two: outside one that the
engine takes for a CPU's and that says it lies on CUDA, as the strict device's do; inside a fake tensor on CUDA, on
which every operator is checked and counted by `fake_gpu.Recorder`. Tensors of the host stay real and small.

What code reads from the card has an answer, so that it takes the way of a step that goes well: numbers are 1, tests are
true, and what hangs on how many entries of a mask are true gets the most that there can be. Each such read is a
"synchronisation". CUDA's autocast is applied by its lists, since the dispatcher would apply the CPU's.

    with fake_card() as card:
        network = Network().to("cuda")     # of any size, if it was built on the meta device
        with card.record() as run:
            loss(network).backward()
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_gpu import LARGEST_LAUNCH, Cost, Memory, Recorder
from tests.recon.strict_device import CUDA, OnDevice, StrictDevice

aten = torch.ops.aten
READ = (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default)
HALF = {
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm",
    "addmm", "baddbmm", "einsum", "scaled_dot_product_attention",
}  # fmt: skip
FULL = {
    "layer_norm", "group_norm", "softmax", "log_softmax", "norm", "exp", "log", "log1p", "expm1", "pow", "__pow__",
    "rsqrt", "reciprocal", "softplus", "sum", "prod", "cumsum", "mse_loss", "l1_loss", "smooth_l1_loss",
    "cosine_similarity", "acos", "asin", "tan", "sinh", "cosh", "erfinv", "cdist", "dist",
}  # fmt: skip
"""Functions whose inputs CUDA's autocast brings to the half format, and to float32 (PyTorch's "CUDA Ops" tables)."""


class Weightless(OnDevice):
    """A tensor on the card; `inner` is fake and on CUDA."""

    card: ClassVar[FakeCard]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if torch._C._current_graph_task_id() != -1:  # autograd makes its zeros on the outer tensor's device
            args, kwargs = tree_map(cls._of_zeros, (args, kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def _of_zeros(cls, value: Any) -> Any:
        plain = isinstance(value, Tensor) and not isinstance(value, OnDevice)
        return cls.of(value) if plain and value.ndim and value.is_floating_point() else value

    @classmethod
    def run(cls, func: Any, args: tuple, kwargs: dict) -> Any:
        """Check, count and follow the shapes."""
        if "device" in kwargs:  # autograd names the outer tensor's; copies to the host are `numbers`
            kwargs = {**kwargs, "device": CUDA}
        with cls.card.running() as recorder:
            if func in READ or _by_mask(func, args):
                if recorder is not None:
                    recorder._check_inputs(func, args, [x for x in args if isinstance(x, Tensor)])
                return _answer(func, args)
            return func(*args, **kwargs)

    @classmethod
    def of(cls, tensor: Tensor) -> Weightless:
        """A tensor of that shape and format."""
        plain = tensor.detach()
        with torch._C.DisableTorchFunction(), cls.card.mode:
            inner = torch.empty_strided(plain.shape, plain.stride(), dtype=plain.dtype, device="cuda")
        cls.card.memory.see(inner)
        return cls(inner)

    def numbers(self) -> Tensor:
        """Ones."""
        return torch.ones(self.shape, dtype=self.dtype)


def _by_mask(func: Any, args: tuple) -> bool:
    indexed = func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
    return indexed and any(index is not None and index.dtype == torch.bool for index in args[1])


def _answer(func: Any, args: tuple) -> Any:
    """What a read of the card gives; see the module."""
    first = args[0]
    if func is aten._local_scalar_dense.default:
        return True if first.dtype == torch.bool else 1.0 if first.is_floating_point() else 1
    if func is aten.equal.default:
        return True
    if func is aten.nonzero.default:
        return first.new_empty(first.numel(), first.ndim, dtype=torch.long)
    if func is aten.index.Tensor:
        (mask,) = args[1]
        return first.new_empty(mask.numel(), *first.shape[mask.ndim :])
    return first if func is aten.index_put_.default else first.clone()


class FakeCard(StrictDevice):
    """What `fake_card` yields.

    Attributes:
        mode, memory: of the fake tensors inside.
    """

    kind = Weightless

    def __init__(self) -> None:
        super().__init__()
        self.mode, self.memory = FakeTensorMode(allow_non_fake_inputs=True), Memory()
        self.recorder: Recorder | None = None
        self.inside = 0  # an operator on the card
        self.casts: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def running(self) -> Iterator[Recorder | None]:
        """The modes that an operator on the card runs in."""
        with torch._C.DisableTorchFunction(), ExitStack() as stack:
            stack.enter_context(self.mode)
            if self.recorder is not None:
                stack.enter_context(self.recorder)
            self.inside += 1
            try:
                yield self.recorder
            finally:
                self.inside -= 1

    @contextmanager
    def record(self) -> Iterator[Cost]:
        """Check and count what runs inside; the peak starts from what is alive."""
        assert self.recorder is None, "recordings do not nest"
        self.memory.peak = self.memory.live
        self.recorder = Recorder(self.memory)
        self.recorder.cost.peak = self.memory.live
        try:
            yield self.recorder.cost
        finally:
            self.recorder = None

    def _arange(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.arange(*args, **kwargs) if self.inside else super()._arange(*args, **kwargs)

    def moved(self, tensor: Tensor, up: bool) -> Tensor:
        """Also noted as a fault of its kind."""
        if self.recorder is not None and isinstance(tensor, OnDevice) != up:
            kind = "upload" if up else "synchronisation"
            self.recorder.fault(kind, "to", f"{tuple(tensor.shape)} {'comes from' if up else 'goes to'} the host")
        return super().moved(tensor, up)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        named = dict(kwargs or {})
        if func is Tensor.backward:
            return self._backward(*args, **named)
        name = getattr(func, "__name__", "")
        if torch.is_autocast_enabled("cuda"):
            if name in HALF or name in FULL:
                dtype = torch.get_autocast_dtype("cuda") if name in HALF else torch.float32
                args, named = tree_map(lambda value: self._cast(value, dtype), (args, named))
        else:
            self.casts.clear()
        if name == "scaled_dot_product_attention" and isinstance(args[0], OnDevice):
            return self._attention(args, named)
        return super().__torch_function__(func, types, args, named)

    def _backward(
        self,
        loss: Tensor,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """With this mode on, as recomputed activations need it; inside a function that it handles it is off."""
        assert inputs is None
        start = torch.ones_like(loss) if gradient is None else gradient
        TorchFunctionMode.__enter__(self)
        try:
            _engine_run_backward((loss,), (start,), bool(retain_graph), create_graph, (), True, accumulate_grad=True)
        finally:
            TorchFunctionMode.__exit__(self, None, None, None)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        """As autocast does; copies of weights are kept until it ends."""
        if not isinstance(value, OnDevice) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if value.dtype == torch.float64 or not (value.is_leaf and value.requires_grad):
            return value.type(dtype)
        if id(value) not in self.casts:
            self.casts[id(value)] = (value, value.type(dtype))
        return self.casts[id(value)][1]

    def _attention(self, args: tuple, kwargs: dict) -> Tensor:
        """The kernel that a card would choose, as in `fake_gpu.Attention`."""
        query, key, value = args[:3]
        if self.recorder is not None and max(query.shape[:2]) > LARGEST_LAUNCH:
            self.recorder.fault("launch", "attention", f"{tuple(query.shape)}: {len(query)} sequences at once")
        mask = kwargs.get("attn_mask") if len(args) < 4 else args[3]
        if mask is None and query.dtype in (torch.float16, torch.bfloat16):
            return aten._scaled_dot_product_flash_attention(query, key, value)[0]
        return aten._scaled_dot_product_efficient_attention(query, key, value, mask, query.requires_grad)[0]


@contextmanager
def fake_card() -> Iterator[FakeCard]:
    """Inside, `device="cuda"` is the pretended card."""
    card = Weightless.card = FakeCard()
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False))
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
        stack.enter_context(mock.patch("torch._C._group_tensors_by_device_and_dtype", _by_said_device))
        stack.enter_context(card)
        yield card


_group_tensors = torch._C._group_tensors_by_device_and_dtype


def _by_said_device(lists: list[list[Tensor | None]], with_indices: bool = False) -> dict:
    """Optimisers' groups by the device that a tensor says, which PyTorch's own code reads from the outer tensor."""
    groups = _group_tensors(lists, with_indices)
    return {(members[0][0].device, dtype): (members, places) for (_, dtype), (members, places) in groups.items()}
