"""Inception v3 for the Fréchet inception distance of images, from the TorchScript file that StyleGAN and others use."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from viewtime.errors import UserError

from .perceptual import in_chunks
from .script_file import ScriptFile
from .video import file_checksum


class Inception:
    """Features of `inception-2015-12-05.pt`: it takes pictures of 8 bits and resamples them to 299 pixels itself."""

    preprocessing = "RGB of 8 bits, resampled by the network's file"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        if not path.is_file():
            raise UserError(f"no such weights file for FID: {path}")
        self.network, self.checksum = ScriptFile(path, device, "Inception v3 for FID"), file_checksum(path)

    @property
    def protocol(self) -> str:
        """Network, checksum and preprocessing, as printed beside the number."""
        return f"Inception v3 (TorchScript), {self.checksum}; {self.preprocessing}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] in [0, 1] -> float32 [M, D] on the CPU."""
        pictures = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        return torch.cat([self.network(part, return_features=True) for part in in_chunks(pictures)])
