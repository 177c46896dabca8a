"""Text encoders: prompts to tokens [B, L, text_width]. The models take the tokens, never the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from viewtime.errors import UserError, require
from viewtime.weights import load_weights

# OpenAI's text transformer: 12 layers of width 768. Its weights in open_clip's form are
# open_clip_model.safetensors of https://huggingface.co/timm/vit_large_patch14_clip_224.openai
ARCHITECTURE = "ViT-L-14-quickgelu"


class TextEncoder(Protocol):
    """What gives a model its text."""

    width: int

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Tokens [B, L, width] of B prompts; an empty prompt is zeros, which the models read as no text."""
        ...


def build_text_tower(architecture: str | dict[str, Any] = ARCHITECTURE) -> nn.Module:
    """open_clip's text transformer without its projection, with random weights.

    Args:
        architecture: a name of `open_clip.list_models()`, or keywords of `open_clip.transformer.TextTransformer`.

    Raises:
        UserError: open_clip is absent or knows no such architecture, or its text is no plain transformer.
    """
    open_clip: Any = require("open_clip", "train")
    from open_clip.transformer import QuickGELU, TextTransformer

    if isinstance(architecture, dict):
        return TextTransformer(output_dim=None, **architecture)
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise UserError(f"open_clip has no model {architecture!r}; see open_clip.list_models()")
    text = dict(config["text_cfg"])
    if unknown := sorted(set(text) - {"context_length", "vocab_size", "width", "heads", "layers"}):
        raise UserError(f"the text of open_clip's {architecture!r} has {unknown[0]}; use a plain one: {ARCHITECTURE}")
    return TextTransformer(output_dim=None, act_layer=QuickGELU if config.get("quick_gelu") else nn.GELU, **text)


def tower_key(key: str) -> str | None:
    """A tensor's name in an open_clip file -> its name in the tower; None for what is not the tower's."""
    key = key.removeprefix("text.")
    ours = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")
    return key if key.startswith(ours) else None


class ClipText:
    """Tokens of CLIP's text transformer before pooling.

    Args:
        weights: safetensors file of an open_clip model; its image half is not read.
        architecture: see `build_text_tower`.
        device: where it runs.

    Raises:
        UserError: see `build_text_tower`; or the file does not fit the architecture.
    """

    def __init__(
        self,
        weights: str | Path,
        architecture: str | dict[str, Any] = ARCHITECTURE,
        device: str | torch.device = "cpu",
    ) -> None:
        tower: Any = build_text_tower(architecture)
        load_weights(tower, weights, dtype=torch.float32, key_map=tower_key)
        self.tower = tower.eval().requires_grad_(False).to(device)
        from open_clip.tokenizer import SimpleTokenizer

        self.tokenize = SimpleTokenizer(context_length=tower.context_length)
        self.width, self.device = int(tower.width), torch.device(device)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`; L is the tower's context length, 77 for CLIP."""
        tower = self.tower
        x = tower.token_embedding(self.tokenize(list(prompts)).to(self.device)) + tower.positional_embedding
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask))
        given = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=self.device)
        return x * given[:, None, None]
