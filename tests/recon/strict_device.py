"""A CUDA device that is pretended on the CPU, with real numbers, and as strict as CUDA about mixing devices.

`FakeTensorMode` has no values, so whole fits cannot run under it, and it lets pass what only values show. Here every
tensor on the device is a wrapper around a CPU tensor that says `device == cuda:0`; an operator that gets tensors of
both kinds raises what CUDA raises, but for the mixtures that CUDA allows: numbers as 0-dimensional tensors, indices on
the CPU into a tensor on the device, and copies. Waits for the device are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
           aten._unsafe_index.Tensor, aten._unsafe_index_put.default)  # fmt: skip
COPIES = (aten.copy_.default, aten._to_copy.default)
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)


class OnDevice(Tensor):
    """A tensor that says it lies on CUDA; `inner` holds its numbers."""

    inner: Tensor
    waits: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device="cpu",
        )  # fmt: skip
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return True

    @property
    def is_cpu(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return False

    @property
    def data(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.detach()

    @data.setter
    def data(self, value: OnDevice) -> None:
        torch._C.TensorBase.data.__set__(self, value)
        self.inner = value.inner

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        refuse_mixtures(func, args, kwargs)
        if func in READS:
            cls.waits[func.overloadpacket.__name__] += 1
        plain_args, plain_kwargs = tree_map(unwrapped, (args, kwargs))
        out = cls.run(func, plain_args, plain_kwargs)
        if func is aten._local_scalar_dense.default:
            return out
        wrapped = tree_map(lambda x: cls(x) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    @classmethod
    def run(cls, func: Any, args: tuple, kwargs: dict) -> Any:
        """Compute an operator on the numbers inside."""
        return func(*args, **kwargs)

    @classmethod
    def of(cls, tensor: Tensor) -> OnDevice:
        """A copy of a tensor of the host."""
        return cls(tensor.detach().clone())

    def numbers(self) -> Tensor:
        """A copy for the host."""
        return self.inner.detach().clone()


def unwrapped(value: Any) -> Any:
    """The CPU tensor of one that pretends; anything else as it is."""
    return value.inner if isinstance(value, OnDevice) else value


def refuse_mixtures(func: Any, args: tuple, kwargs: dict) -> None:
    """Raises RuntimeError where CUDA would."""
    if func in COPIES:
        return
    values = [args[0], *args[2:], kwargs] if func in INDEXED and isinstance(args[0], OnDevice) else [args, kwargs]
    tensors = [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]
    strays = [value for value in tensors if not isinstance(value, OnDevice) and value.ndim]
    if strays and len(strays) < len(tensors):
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device; {[tuple(x.shape) for x in strays]} on the CPU"
        )


class _Move(torch.autograd.Function):
    """To the device or back, with its gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, kind: type[OnDevice], up: bool) -> Tensor:
        ctx.kind, ctx.up = kind, up
        return kind.of(tensor) if up else tensor.detach().numbers()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return (grads[0].numbers() if ctx.up else ctx.kind.of(grads[0])), None, None


class StrictDevice(TorchFunctionMode):
    """Within it, `device="cuda"` gives tensors of the pretended device.

    Attributes:
        kind: of those tensors.
        waits: how often something was copied between the two or read; starts at nothing on entry.
    """

    kind: type[OnDevice] = OnDevice

    def __enter__(self) -> StrictDevice:
        self.waits = self.kind.waits = Counter()
        torch.__future__.set_overwrite_module_params_on_conversion(
            True
        )  # a wrapper cannot become a plain tensor's data
        # A function of torch.nn.functional runs out of the mode's sight; embedding_bag makes its offsets there.
        self.arange, torch.arange = torch.arange, self._arange
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        torch.arange = self.arange
        torch.__future__.set_overwrite_module_params_on_conversion(False)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:  # a driver's
            return args[0]
        if func is Tensor.cuda:
            return self.moved(args[0], True)
        if func is Tensor.cpu:
            return self.moved(args[0], False)
        if func is Tensor.to:
            return self._to(args[0], list(args[1:]), kwargs)
        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], OnDevice):
            if func is Tensor.numpy:
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            self.waits["to the host"] += 1
            return args[0].numbers().tolist()
        if func is Tensor.new_tensor and isinstance(args[0], OnDevice):
            self.waits["from the host"] += 1
            return self.kind.of(torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}))
        device = kwargs.get("device")
        if device is None or func is torch._C._nn._parse_to:  # how Module.to reads its arguments
            return func(*args, **kwargs)
        kwargs["device"] = "cpu"
        up = torch.device(device).type == "cuda"
        if up and kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        plain_args, plain_kwargs = tree_map(unwrapped, (args, kwargs))
        made = func(*plain_args, **plain_kwargs)
        if not up:
            return made
        if func in (torch.tensor, torch.as_tensor):
            self.waits["from the host"] += 1
        needs_grad = made.requires_grad
        return self.kind.of(made).requires_grad_(needs_grad)

    def moved(self, tensor: Tensor, up: bool) -> Tensor:
        """The tensor on the device (`up`) or on the CPU; itself where it is there already."""
        if isinstance(tensor, OnDevice) == up:
            return tensor
        self.waits["from the host" if up else "to the host"] += 1
        result = _Move.apply(tensor, self.kind, up)
        assert isinstance(result, Tensor)
        return result

    def _arange(self, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        made = self.arange(*args, **kwargs)
        return made if device is None or torch.device(device).type == "cpu" else self.kind.of(made)

    def _to(self, tensor: Tensor, values: list, kwargs: dict) -> Tensor:
        up, dtype = isinstance(tensor, OnDevice), kwargs.get("dtype")
        for value in [*values, kwargs.get("device"), kwargs.get("other")]:
            if isinstance(value, Tensor):
                up, dtype = isinstance(value, OnDevice), value.dtype
            elif isinstance(value, str | torch.device):
                up = torch.device(value).type == "cuda"
            elif isinstance(value, torch.dtype):
                dtype = value
        result = self.moved(tensor, up)
        return result if dtype is None else result.type(dtype)
