"""Where a fit runs."""

from __future__ import annotations

import torch

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError


def fitting_device(config: ReconstructConfig) -> torch.device:
    """Where the fit runs.

    Raises:
        UserError: no such device here, or the method cannot use it.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    if config.device == "cuda" and config.method == "nerf":
        raise UserError("--device cuda is for --method gaussians; the NeRF runs on the CPU")
    return torch.device("cuda" if cuda and config.device != "cpu" and config.method == "gaussians" else "cpu")
