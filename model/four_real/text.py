"""Text encoders: prompts to tokens [B, L, text_width]. The models take the tokens, never the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from viewtime.errors import UserError, require

CLIP_NAME = "ViT-L-14"


class TextEncoder(Protocol):
    """What gives a model its text."""

    width: int

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Tokens [B, L, width] of B prompts; an empty prompt is zeros, which the models read as no text."""
        ...


class ClipText:
    """Tokens of CLIP's text transformer before pooling, through open_clip.

    Args:
        pretrained: open_clip's tag or the path of a weight file, e.g. "openai"; None leaves random weights.
        name: open_clip's architecture.
        device: where it runs.

    Raises:
        UserError: open_clip is absent, or knows no such architecture.
    """

    def __init__(
        self, pretrained: str | None = "openai", name: str = CLIP_NAME, device: str | torch.device = "cpu"
    ) -> None:
        open_clip: Any = require("open_clip", "train")
        if name not in open_clip.list_models():
            raise UserError(f"open_clip has no model {name!r}; see open_clip.list_models()")
        model = open_clip.create_model(name, pretrained=pretrained).eval().requires_grad_(False).to(device)
        if not hasattr(model, "transformer"):
            raise UserError(f"open_clip's {name!r} has no plain text transformer; use {CLIP_NAME}")
        self.tokenize = open_clip.get_tokenizer(name)
        # Only the text half is kept: the image tower is the larger one.
        self.embedding, self.positions = model.token_embedding, model.positional_embedding
        self.transformer, self.norm, self.mask = model.transformer, model.ln_final, model.attn_mask
        self.width = int(model.ln_final.normalized_shape[0])
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`; L is 77."""
        tokens = self.tokenize(list(prompts)).to(self.device)
        x = self.embedding(tokens) + self.positions
        x = self.norm(self.transformer(x, attn_mask=self.mask.to(self.device)))
        given = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=self.device)
        return x * given[:, None, None]
