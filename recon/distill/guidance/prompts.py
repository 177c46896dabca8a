"""What to make, as embeddings: the words of each direction of view, and the negative prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.weight_header import open_weights
from viewtime.weights import read_tensors, save_weights

DIRECTIONS = ("side", "front", "back", "overhead")
QUALITY_WORDS = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and unclear, cropped, "
    "lowres, low quality, artifacts, duplicate, morbid, mutilated, poorly drawn face, deformed, dehydrated, "
    "bad proportions"
)
"""The negative prompt of MVDream in both papers, and of all guidances of Dream-in-4D."""


class TextEncoder(Protocol):
    """A frozen text tower."""

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[N, L, D] of N prompts; warns of what does not fit."""
        ...


@dataclass(frozen=True)
class ViewWords:
    """From which direction a camera sees the object, by thresholds in degrees; all comparisons are strict.

    A camera is at the front within `front` of azimuth 0, at the back within `back` of 180, overhead above elevation
    `overhead`, else at the side; a later condition overrides.
    """

    front: float = 45.0
    back: float = 45.0
    overhead: float = 60.0
    form: Literal["suffix", "prefix"] = "suffix"

    def index(self, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """Index into `DIRECTIONS`, int64, of angles in degrees of any shape."""
        azimuth = torch.remainder(azimuth + 180, 360) - 180
        found = torch.zeros_like(azimuth, dtype=torch.int64)
        found[azimuth.abs() < self.front] = 1
        found[azimuth.abs() > 180 - self.back] = 2
        found[elevation > self.overhead] = 3
        return found

    def describe(self, text: str) -> list[str]:
        """The prompt in each direction."""
        if self.form == "suffix":
            return [f"{text}, {direction} view" for direction in DIRECTIONS]
        words = ["backside" if direction == "back" else direction for direction in DIRECTIONS]
        return [f"{word} view of {text}" for word in words]


@dataclass(frozen=True)
class TextPrompt:
    """Embeddings of one prompt.

    Attributes:
        text, negative: what was written.
        plain: [L, D]; directions: [4, L, D] in the order of `DIRECTIONS`; unconditional: [L, D] of the negative
            prompt, which never has view words.
        words: None asks for `plain` from everywhere.
    """

    text: str
    negative: str
    plain: Tensor
    directions: Tensor
    unconditional: Tensor
    words: ViewWords | None = None

    def conditional(self, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """Embeddings [..., L, D] for cameras at angles [...] in degrees."""
        if self.words is None:
            return self.plain.expand(*elevation.shape, *self.plain.shape)
        return self.directions[self.words.index(elevation, azimuth).to(self.directions.device)]

    def pair(self, elevation: Tensor, azimuth: Tensor) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional embeddings, [N, L, D] each, for cameras [N]."""
        conditional = self.conditional(elevation, azimuth)
        return conditional, self.unconditional.expand_as(conditional)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextPrompt:
        """The embeddings elsewhere."""
        names = ("plain", "directions", "unconditional")
        return replace(self, **{name: getattr(self, name).to(device=device, dtype=dtype) for name in names})

    def save(self, path: str | Path) -> Path:
        """Write the embeddings to a safetensors file, so that a run needs no text encoder."""
        tensors = {"plain": self.plain, "directions": self.directions, "unconditional": self.unconditional}
        words = None if self.words is None else self.words.__dict__
        return save_weights(path, tensors, {"prompt": {"text": self.text, "negative": self.negative, "words": words}})


def encode_prompt(encoder: TextEncoder, text: str, negative: str = "", words: ViewWords | None = None) -> TextPrompt:
    """Embed a prompt once, in all directions.

    Raises:
        UserError: an empty prompt.
    """
    if not text.strip():
        raise UserError("the prompt is empty; say what to make")
    described = (words or ViewWords()).describe(text)
    plain, *directions, unconditional = encoder([text, *described, negative])
    return TextPrompt(text, negative, plain, torch.stack(directions), unconditional, words)


def read_prompt(path: str | Path) -> TextPrompt:
    """Embeddings that `TextPrompt.save` wrote.

    Raises:
        UserError: not such a file.
    """
    opened = open_weights(path)
    record = opened.config.get("prompt")
    if not isinstance(record, dict) or set(opened.entries) != {"plain", "directions", "unconditional"}:
        raise UserError(
            f"{path} holds no prompt embeddings of viewtime; it has {', '.join(sorted(opened.entries)[:3])}"
        )
    tensors = dict(read_tensors(opened))
    words = None if record["words"] is None else ViewWords(**record["words"])
    return TextPrompt(record["text"], record["negative"], words=words, **tensors)
