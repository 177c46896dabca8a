"""Threads of a fit on the CPU: the compiled kernels take all, one per picture, and torch's own operations one.

A step of a fit is some hundred small operations. Split over threads, each is followed by threads that wait busily for
the next, which costs several times the processor time of the work itself and, on a busy machine, wall time too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 1_000_000  # elements of the largest tensors of a step, up to which one thread is enough

_kernels: int | None = None


def kernel_threads() -> int:
    """Threads that a compiled kernel may start."""
    return _kernels or torch.get_num_threads()


@contextmanager
def one_thread(elements: int) -> Iterator[None]:
    """Torch's operations on one thread while tensors of so many elements are at work, if these are small."""
    global _kernels
    before, kernels = torch.get_num_threads(), _kernels
    if elements <= SMALL:
        _kernels = kernel_threads()
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _kernels = kernels
