"""From the host to the device that trains."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(value: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on the device; to a GPU by way of pinned memory, so that the host does not wait for what is queued."""
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, dtype, non_blocking=True)
