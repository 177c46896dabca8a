"""Where the channels of convolution weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """Lay convolution weights (of images and of volumes) out with channels last, in place; returns the module.

    Kernels for images whose channels lie last read them without a copy. Values, names and what is saved stay the same.
    """
    for parameter in module.parameters():
        if parameter.dim() >= 4:
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return module
