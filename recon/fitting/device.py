"""Where a fit runs."""

from __future__ import annotations

import torch

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError


def fitting_device(config: ReconstructConfig) -> torch.device:
    """Where the fit runs, of either method: CUDA where there is one, unless the options say otherwise.

    Raises:
        UserError: no such device here.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    return torch.device("cuda" if cuda and config.device != "cpu" else "cpu")
