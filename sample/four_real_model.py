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
from viewtime.model.four_real.text import TextEncoder
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.grid_model import ModelTraits, Request, SamplerDefaults
from viewtime.weights import load_weights, read_header, save_weights

WINDOW = 8  # "The model is trained to generate an 8 × 8 frame grid in each step" (section 3.3)
STEPS = 20


class FourRealModel:
    """See `GridModel`.

    Args:
        denoiser: of `viewtime.model.registry`'s "4real".
        record: the weight file's metadata.
        prompt, encoder: a text and what turns it into tokens; without them the model is given no text.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        record: dict[str, Any] | None = None,
        prompt: str = "",
        encoder: TextEncoder | None = None,
    ) -> None:
        if prompt and encoder is None:
            raise UserError("a prompt needs a text encoder; give encoder=ClipText() or another one")
        self.denoiser = denoiser
        self._record = record or {}
        self.text = encoder([prompt]) if encoder is not None else None
        self.base = denoiser.network.config.base  # type: ignore[union-attr]
        self.traits = ModelTraits(
            name="4real",
            window_views=WINDOW,
            window_frames=WINDOW,
            size=self.base.reference_height,
            channels=self.base.channels,
            keep_input=False,
            plan="autoregressive",
            needs_reference=True,
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
        return save_weights(folder / "4real.safetensors", self.denoiser.network.state_dict(), record)

    def resize(self, size: int) -> None:
        """Other cells than those of the reference height; positions scale with them.

        Raises:
            UserError: the side is not a multiple of the patch.
        """
        if size < self.base.patch or size % self.base.patch:
            raise UserError(f"--size {size}; 4real needs a multiple of {self.base.patch} pixels")
        self.traits = replace(self.traits, size=size)

    def latent_shape(self) -> tuple[int, int, int]:
        """A cell is its own latent."""
        return (self.base.channels, self.traits.size, self.traits.size)

    def clean(self, request: Request) -> tuple[Tensor, Tensor]:
        """Known cells of the rectangle, on white, in [-1, 1]."""
        known = request.known()
        return known, (composite(request.known_cells()) * 2 - 1) * known[..., None, None, None]

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning | None]:
        """Known cells and text; the unconditional branch has neither."""
        known, values = self.clean(request)
        cond = {"known": known[None].to(self.device), "known_frames": values[None].to(self.device)}
        if self.text is not None:
            cond["text"] = self.text.to(self.device)
        return cond, {name: torch.zeros_like(value) for name, value in cond.items()}

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, 3, S, S] in [-1, 1] -> RGB in [0, 1]."""
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
