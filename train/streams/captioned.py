"""A stream for models with text: another stream's batches with `cond["text"]`, the tokens of their captions.

Options beside the inner stream's: `of` (name of the inner stream, "grids" by default) and `text`: {weights,
architecture} of `viewtime.model.four_real.text.ClipText`. Without `weights` every sample is "no text", a single
token of zeros of `width` features, which is also what conditioning dropout of "text" leaves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.model.four_real.text import ARCHITECTURE, ClipText, TextEncoder
from viewtime.train.registry import STREAMS, BatchStream, resolve


@dataclass(frozen=True)
class TextOptions:
    """See the module; `width` is the model's `text_width`."""

    width: int
    weights: str | None = None
    architecture: str | dict[str, Any] = ARCHITECTURE


class CaptionedGrids:
    """See the module; position and order are the inner stream's."""

    def __init__(self, inner: BatchStream, width: int, encoder: TextEncoder | None) -> None:
        self.inner, self.width, self.encoder = inner, width, encoder

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for raw in self.inner:
            batch = dict(raw) if isinstance(raw, dict) else dict(vars(raw))
            if self.encoder is None:
                text = torch.zeros(len(batch["x0"]), 1, self.width)
            elif "captions" in batch:
                text = self.encoder(batch["captions"])
            else:
                raise UserError("data.options.text: this stream has no captions; leave data.options.text.weights out")
            batch["cond"] = {**batch["cond"], "text": text}
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Of the inner stream."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the inner stream."""
        self.inner.load_state_dict(state)


def with_captions(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> CaptionedGrids:
    """Factory: see the module.

    Raises:
        UserError: a wrong option, or the encoder's tokens are not `width` wide.
    """
    text = build(TextOptions, options.get("text", {}), "data.options.text")
    inner_options = {key: value for key, value in options.items() if key not in ("text", "of")}
    factory = resolve(options.get("of", "grids"), STREAMS, "stream")
    inner = factory(inner_options, batch_size=batch_size, seed=seed, rank=rank, world=world)
    if text.weights is None:
        log.warning("captions are not used: data.options.text.weights names no text encoder")
        return CaptionedGrids(inner, text.width, None)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    encoder = ClipText(text.weights, text.architecture, f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if encoder.width != text.width:
        raise UserError(f"{text.weights}: its text is {encoder.width} wide; data.options.text.width is {text.width}")
    return CaptionedGrids(inner, text.width, encoder)
