"""The device that a model runs on."""

from __future__ import annotations

import torch

from viewtime.errors import UserError, first_line


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or CUDA where there is one.

    Raises:
        UserError: not a device, or not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"--device {device}: {first_line(error)}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: this machine has no CUDA device that PyTorch can use; try --device cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {device}: this machine has no Apple GPU that PyTorch can use; try --device cpu")
    return chosen
