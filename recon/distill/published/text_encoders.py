"""Text towers by local path: diffusers folders (CLIP, T5), and OpenCLIP's inside a single file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from viewtime.errors import UserError, first_line, require
from viewtime.log import log

from ..guidance.prompts import TextEncoder
from .files import open_published
from .folders import read_json
from .ldm_files import ldm_text_tower

MOST_TOKENS = 77


def fitting(
    texts: Sequence[str], rows: Sequence[Sequence[int]], read: Callable[[Sequence[int]], str]
) -> list[list[int]]:
    """The tokens of each text that fit the tower, with one warning that shows what is lost of the first too long one.

    Args:
        texts: the prompt first, then the same with words of view, and the negative prompt.
        rows: all tokens of each text, the last one ends it.
        read: tokens to words.
    """
    long = next((index for index, tokens in enumerate(rows) if len(tokens) > MOST_TOKENS), None)
    if long is not None:
        tokens, text = rows[long], texts[long]
        lost = read(tokens[MOST_TOKENS - 1 : -1]).strip()
        log.warning(
            "the prompt has %d tokens and %d fit; lost: “%s” (of “%s…”)", len(tokens), MOST_TOKENS, lost, text[:40]
        )
    return [[*tokens[:-1][: MOST_TOKENS - 1], tokens[-1]] for tokens in rows]


class OpenClipText:
    """OpenCLIP's tower before pooling, as Stable Diffusion 2 reads it; padded with token 0.

    Args:
        tower: `open_clip.transformer.TextTransformer` without its last block.
    """

    def __init__(self, tower: nn.Module) -> None:
        self.tower: Any = tower
        tokenizer: Any = require("open_clip.tokenizer", "train")
        self.tokenizer = tokenizer.SimpleTokenizer(context_length=MOST_TOKENS)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        weight = self.tower.token_embedding.weight
        rows = torch.zeros(len(prompts), MOST_TOKENS, dtype=torch.int64)
        first, last = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        found = [[first, *self.tokenizer.encode(text), last] for text in prompts]
        for row, tokens in zip(rows, fitting(prompts, found, self.tokenizer.decode)):
            row[: len(tokens)] = torch.tensor(tokens)
        x = self.tower.token_embedding(rows.to(weight.device)) + self.tower.positional_embedding
        return self.tower.ln_final(self.tower.transformer(x, attn_mask=self.tower.attn_mask))


class TransformersText:
    """A tower of transformers: the last hidden state.

    Args:
        tower: `CLIPTextModel` or `T5EncoderModel`; tokenizer: its own, which also says how to pad.
        masked: hide the padding from the tower (T5; CLIP was trained to see it).
    """

    def __init__(self, tower: Any, tokenizer: Any, *, masked: bool) -> None:
        self.tower, self.tokenizer, self.masked = tower, tokenizer, masked

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        rows = fitting(prompts, [self.tokenizer(text).input_ids for text in prompts], self.tokenizer.decode)
        pad = self.tokenizer.pad_token_id
        device = self.tower.device
        tokens = torch.tensor([row + [pad] * (MOST_TOKENS - len(row)) for row in rows], device=device)
        seen = torch.tensor([[1] * len(row) + [0] * (MOST_TOKENS - len(row)) for row in rows], device=device)
        return self.tower(tokens, attention_mask=seen if self.masked else None).last_hidden_state


def open_text_encoder(path: str | Path, device: torch.device | str, dtype: torch.dtype | None = None) -> TextEncoder:
    """The text tower at a path.

    Args:
        path: a diffusers folder with `tokenizer` and `text_encoder`, or a single file of Stable Diffusion 2 or MVDream.

    Raises:
        UserError: neither.
    """
    path = Path(path)
    if path.is_file():
        return OpenClipText(ldm_text_tower(open_published(path), device, dtype))
    kind = _class_of(path)
    transformers: Any = require("transformers", "train")
    options = {"local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path / "tokenizer", **options)
        tower, found = getattr(transformers, kind).from_pretrained(
            path / "text_encoder", dtype=dtype, output_loading_info=True, weights_only=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the text encoder in {path} cannot be read: {first_line(error)}") from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise UserError(f"{path / 'text_encoder'} lacks {len(missing)} tensors ({missing[0]}; …); download it again")
    return TransformersText(tower.eval().requires_grad_(False).to(device), tokenizer, masked=kind == "T5EncoderModel")


def check_text_encoder(path: str | Path) -> None:
    """Raise UserError where `open_text_encoder` would find nothing, without reading the weights."""
    path = Path(path)
    if path.is_file():
        ldm_text_tower(open_published(path), "meta", None)
    elif not (path / "tokenizer").is_dir():
        raise UserError(f"{path} has no tokenizer: a diffusers folder with text_encoder/ and tokenizer/ is needed")
    else:
        _class_of(path)


def _class_of(folder: Path) -> str:
    """The class of a diffusers folder's text encoder."""
    part = folder / "text_encoder"
    if not (part / "config.json").is_file():
        raise UserError(
            f"{folder} holds no text encoder: a diffusers folder with text_encoder/ and tokenizer/ is needed"
        )
    kind = (read_json(part / "config.json").get("architectures") or [""])[0]
    if kind not in ("CLIPTextModel", "T5EncoderModel"):
        raise UserError(f"{part} holds {kind or 'no known class'}; CLIPTextModel or T5EncoderModel is needed")
    return kind
