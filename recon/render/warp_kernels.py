"""Kernels with one source for CUDA and the CPU (NVIDIA Warp): how they are loaded, launched and built ahead of time."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.log import log

from .compiled import cache_folder, load_library


@functools.cache
def load_warp() -> Any:
    """The module `warp`, quiet, with its built kernels beside the C++ ones; None, after one line, without it."""
    try:
        import warp
    except ImportError as error:
        log.warning("no Warp (%s): kernels run as plain torch, many times slower; pip install warp-lang", error)
        return None
    warp.config.log_level = warp.LOG_ERROR
    warp.config.kernel_cache_dir = str(cache_folder() / "warp")
    warp.init()
    return warp


def choose_kernel(device: torch.device, source: Path) -> str:
    """Who computes on a device: compiled (C++ of `source`, the CPU's fastest), warp, or reference (plain torch)."""
    if device.type == "cpu" and load_library(source) is not None:
        return "compiled"
    return "reference" if load_warp() is None else "warp"


def launch(kernel: Any, threads: int | tuple[int, ...], inputs: list[Tensor | int | float]) -> None:
    """Run a kernel on the device of its tensors, in torch's current stream there.

    Args:
        threads: their number, up to three axes.
        inputs: in the order of the kernel's parameters; tensors are written in place, float32, int32, int64 or uint8.
    """
    warp = load_warp()
    device = next(value.device for value in inputs if isinstance(value, Tensor))
    passed = [
        warp.from_torch(value.detach(), return_ctype=True) if isinstance(value, Tensor) else value for value in inputs
    ]
    if device.type == "cuda":
        stream = warp.stream_from_torch(torch.cuda.current_stream(device))
        warp.launch(kernel, dim=threads, inputs=passed, stream=stream, record_tape=False)
    else:
        warp.launch(kernel, dim=threads, inputs=passed, device="cpu", record_tape=False)


def build_for_cuda(kernel: Any, architecture: int, folder: Path) -> str:
    """PTX of a kernel for a compute capability (80 is 8.0): needs neither a GPU nor a CUDA toolkit."""
    warp = load_warp()
    paths = warp.compile_aot_module(kernel.module, arch=architecture, module_dir=folder, use_ptx=True)
    return Path(paths[0]).read_text()
