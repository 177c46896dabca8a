"""Networks that come as TorchScript files; whether a file is the network that it should be shows when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError, first_line, machine_failure


class ScriptFile:
    """A TorchScript file on a device.

    Raises:
        UserError: it is no such file, or, when called, another network than the caller takes it for.
    """

    def __init__(self, path: Path, device: str, kind: str) -> None:
        self.path, self.kind, self.device = path, kind, torch.device(device)
        try:
            self.module = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is no TorchScript file: {first_line(error)}") from error

    def __call__(self, inputs: Tensor, **options: Any) -> Tensor:
        """Inputs [N, ...] -> features [N, D] on the CPU."""
        try:
            features = self.module(inputs.to(self.device), **options)
            return features.flatten(start_dim=1).float().cpu()
        except (torch.jit.Error, RuntimeError, TypeError, AttributeError) as error:  # type: ignore[misc]
            if machine_failure(error) is not None:
                raise
            last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise UserError(f"{self.path} is not {self.kind}: it cannot be called as that is ({last})") from error
