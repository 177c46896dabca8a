"""What `torch.compile` would launch on a GPU that is not there: its scheduler's kernels and the bytes that they move.

The graph is traced on fake CUDA tensors, lowered and fused by Inductor as for an H200; no kernel is generated or run,
and the passes before the lowering, which match patterns such as weights that lie packed, are left out.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.ir import MultiOutput, MultiOutputLayout, NoneLayout
from torch._inductor.virtualized import V
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from benchmarks.fake_gpu import FakeGPU

H200 = SimpleNamespace(
    name="NVIDIA H200", major=9, minor=0, multi_processor_count=132, total_memory=141 * 10**9, warp_size=32,
    L2_cache_size=50 * 2**20, regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048,
    max_threads_per_block=1024, shared_memory_per_block_optin=232448,
)  # fmt: skip


def fused_bytes(gpu: FakeGPU, network: nn.Module, arguments: tuple[Any, ...]) -> int:
    """Bytes read and written by the kernels of a compiled call, on fake tensors of `gpu` without gradients."""
    names = list(dict(network.named_parameters()))
    weights = [parameter.detach() for parameter in network.parameters()]
    leaves, form = tree_flatten((arguments, weights))
    held = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(*tensors: Tensor) -> Tensor:
        for index, tensor in zip(held, tensors):
            leaves[index] = tensor
        inputs, parameters = tree_unflatten(leaves, form)
        return torch.func.functional_call(network, dict(zip(names, parameters)), inputs)

    tensors = [leaves[index] for index in held]
    with patch("torch.compiler.is_compiling", lambda: True):
        graph = make_fx(torch.func.functionalize(call), decomposition_table=select_decomp_table())(*tensors)
    with ExitStack() as stack:
        stack.enter_context(patch.object(scheduler, "has_triton", lambda *_: True))
        stack.enter_context(patch("torch.cuda.get_device_capability", lambda *_: (H200.major, H200.minor)))
        for place in (CudaInterface, CudaInterface.Worker):
            stack.enter_context(patch.object(place, "get_device_properties", staticmethod(lambda *_: H200)))
        lowering = GraphLowering(graph, example_inputs=tensors, is_inference=True)
        for handler in (
            V.set_debug_handler(DebugContext()), V.set_graph_handler(lowering), V.set_fake_mode(gpu.mode),
        ):  # fmt: skip
            stack.enter_context(handler)
        lowering.run(*tensors)
        lowering._update_scheduler()
        return sum(map(_bytes_of, lowering.scheduler.nodes))


def _bytes_of(node: scheduler.BaseSchedulerNode) -> int:
    """Of a fused kernel as Inductor counts them, each buffer once; of a library's the parts that it is given."""
    if not isinstance(node, scheduler.ExternKernelSchedulerNode):
        return node.get_read_write_buffers_sizes()
    kernel: Any = node.node
    touched = [] if isinstance(kernel, MultiOutput) else list(kernel.inputs)
    if not isinstance(kernel.layout, (MultiOutputLayout, NoneLayout)):
        touched.append(kernel)
    return sum(math.prod(map(int, part.get_size())) * part.get_dtype().itemsize for part in touched)
