"""In which number format each part of a model computes, unless the user says otherwise.

float16 keeps three bits more than bfloat16, and the published scripts compute the networks under float16 autocast and
decode in float32; so is this. benchmarks/precision.py measures what each format costs: every operator's result rounded,
golden networks. What noise levels, cameras and places are embedded by is always float32
(`viewtime.model.full_precision`).
"""

from __future__ import annotations

import torch
from torch import nn

Dtypes = dict[str, torch.dtype]

ON_CUDA: Dtypes = {
    "network": torch.float16,
    "image_encoder": torch.float16,
    "frame_encoder": torch.float32,
    "view_encoder": torch.float32,
    "decoder": torch.float32,
}
"""Parts as in `viewtime.model.published.video_config.Part`; models of one part (mini, 4real) are a "network"."""


def part_dtypes(device: torch.device, dtype: torch.dtype | None = None) -> Dtypes:
    """Format of each part: one for all if given, else float32 on the CPU and `ON_CUDA` elsewhere."""
    if dtype is not None:
        return dict.fromkeys(ON_CUDA, dtype)
    return dict(ON_CUDA) if device.type != "cpu" else dict.fromkeys(ON_CUDA, torch.float32)


def cast_parts(module: nn.Module, dtypes: Dtypes, device: torch.device | None = None) -> nn.Module:
    """Move and cast each direct child by its name; a module without such children is a "network" as a whole."""
    children = {name: child for name, child in module.named_children() if name in dtypes}
    for name, child in (children or {"network": module}).items():
        child.to(device=device, dtype=dtypes[name])
    return module
