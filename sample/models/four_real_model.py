"""4Real-Video behind the runner: RGB pixels, known cells inside the grid, windows of 8 × 8 that slide along both axes.

The grid is completed from its first row (a fixed-view video) and its first column (a freeze-time video). There are no
cameras: the freeze-time video shows where the views are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.images import composite
from viewtime.model.denoiser import Conditioning, NetworkDenoiser
from viewtime.model.eight_bits import state_to_save
from viewtime.model.four_real.text import TextEncoder
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.weights import load_weights, read_header, save_weights

from .grid_model import ModelTraits, Request, SamplerDefaults

WINDOW = 8  # "The model is trained to generate an 8 × 8 frame grid in each step" (section 3.3)
STEPS = 20


class FourRealModel:
    """See `GridModel`.

    Args:
        denoiser: of `viewtime.model.registry`'s "4real".
        record: the weight file's metadata.
    """

    def __init__(self, denoiser: NetworkDenoiser, record: dict[str, Any] | None = None) -> None:
        self.denoiser = denoiser
        self._record = record or {}
        self.text: Tensor | None = None
        self.base = denoiser.network.config.base  # type: ignore[union-attr]
        self.traits = ModelTraits(
            name="4real",
            window_views=WINDOW,
            window_frames=WINDOW,
            size=self.base.frame_size[0],
            width=self.base.frame_size[1],
            channels=self.base.channels,
            keep_input=False,
            plan="autoregressive",
            needs_reference=True,
            sees_cameras=False,
            sampler=SamplerDefaults(steps=STEPS),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> FourRealModel:
        """Move the weights."""
        self.denoiser.to(device=device, dtype=dtype)
        return self

    def save(self, folder: Path) -> Path:
        """One safetensors file."""
        record = {**self._record, "model": {"name": "4real", "config": resolved_config(self.denoiser.network)}}
        return save_weights(folder / "4real.safetensors", state_to_save(self.denoiser.network), record)

    def describe(self, prompt: str, encoder: TextEncoder) -> None:
        """Say what the grid shows; without it the model is given no text.

        Raises:
            UserError: the model was built without text or for another encoder.
        """
        if self.base.text_width != encoder.width:
            made_for = f"text of width {self.base.text_width}" if self.base.text_width else "no text"
            raise UserError(f"the text encoder gives tokens of width {encoder.width}; this 4real takes {made_for}")
        self.text = encoder([prompt])

    def resize(self, size: int) -> None:
        """Cells of another height and the same shape; positions scale with them.

        Raises:
            UserError: height or width is not a multiple of the patch.
        """
        height, width = self.base.frame_size
        across = size * width / height
        if size < self.base.patch or size % self.base.patch or across % self.base.patch:
            raise UserError(
                f"--size {size} makes cells of {size} × {across:g} pixels; 4real needs multiples of {self.base.patch}"
            )
        self.traits = replace(self.traits, size=size, width=int(across))

    def latent_shape(self) -> tuple[int, int, int]:
        """A cell is its own latent."""
        return (self.base.channels, *self.traits.cell)

    def clean(self, request: Request) -> tuple[Tensor, Tensor]:
        """Known cells of the rectangle, on white, in [-1, 1]."""
        known = request.known()
        return known, (composite(request.known_cells()) * 2 - 1) * known[..., None, None, None]

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning | None]:
        """Known cells and text. Guidance is by text alone: its unconditional branch keeps the known cells."""
        known, values = self.clean(request)
        cond = {"known": known[None].to(self.device), "known_frames": values[None].to(self.device)}
        if self.text is None:
            return cond, None
        text = self.text.to(self.device)
        return {**cond, "text": text}, {**cond, "text": torch.zeros_like(text)}

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, 3, H, W] in [-1, 1] -> RGB in [0, 1]."""
        return (latents.cpu().float() / 2 + 0.5).clamp(0, 1)


def load_four_real(path: Path, device: torch.device, dtype: torch.dtype) -> FourRealModel:
    """A weight file of "4real", as `viewtime train` writes it.

    Raises:
        UserError: its metadata or tensors do not fit.
    """
    config, _ = read_header(path)
    section = config.get("model")
    if not isinstance(section, dict) or section.get("name") != "4real":
        raise UserError(f"{path} holds no 4real model; its metadata names {section!r}")
    with torch.device("meta"):
        denoiser = build_denoiser("4real", section.get("config", {}))
    load_weights(denoiser.network, path, device, dtype)
    denoiser.eval().requires_grad_(False)
    return FourRealModel(denoiser, config)
