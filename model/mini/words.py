"""WordsNetwork: a grid of pictures from a few words, cameras and instants; no picture is given.

One network is an image model (1 × 1 cells), a multi-view model (V × 1), a video model (1 × F) and a model of grids.
A caption is a bag of words out of three closed lists: kind, colour, motion.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.full_precision import FullPrecisionLinear
from viewtime.model.mini.network import (
    AZIMUTH_HARMONICS,
    NOISE_FREQUENCIES,
    Layer,
    camera_features,
    noise_features,
    open_gates,
)
from viewtime.model.mini.stem import StemDecoder, StemEncoder

SMALL_WORDS = frozenset({"a", "an", "the", "is", "and", "that", "which"})


@dataclass(frozen=True)
class WordsConfig:
    """Sizes of `WordsNetwork`, and the words that it knows.

    Attributes:
        kinds, colours, motions: an entry is a word and its other forms, parted by blanks: "walks walking walk".
        size: side of a cell in pixels; channels: RGB on white, and alpha.
        stem_widths, width, depth, head_dim: as in `MiniConfig`.
    """

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    motions: tuple[str, ...]
    size: int = 32
    channels: int = 4
    stem_widths: tuple[int, int] = (32, 64)
    width: int = 128
    depth: int = 6
    head_dim: int = 32

    def __post_init__(self) -> None:
        if self.size % 8 or self.width % self.head_dim or self.depth % 2:
            raise UserError(
                f"mini-words: size {self.size} must be a multiple of 8, width {self.width} of head_dim "
                f"{self.head_dim}, and depth {self.depth} even"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """All entries, kinds first."""
        return (*self.kinds, *self.colours, *self.motions)


def read_words(caption: str, config: WordsConfig) -> Tensor:
    """A caption as the network takes it: float32 [W], 1 at its words.

    Raises:
        UserError: a word that the network does not know, no kind, or two words of one list.
    """
    found = torch.zeros(len(config.words))
    forms = {form: index for index, entry in enumerate(config.words) for form in entry.split()}
    for word in re.findall(r"[^\W_]+", caption.lower()):
        if word in SMALL_WORDS:
            continue
        if word not in forms:
            raise UserError(f"{caption!r}: the model knows no {word!r}; it knows {_known(config)}")
        found[forms[word]] = 1
    parts = found.split([len(config.kinds), len(config.colours), len(config.motions)])
    if parts[0].sum() != 1 or max(part.sum() for part in parts) > 1:
        raise UserError(f"{caption!r}: give one kind, at most one colour and one motion of {_known(config)}")
    return found


def _known(config: WordsConfig) -> str:
    lists = (("kinds", config.kinds), ("colours", config.colours), ("motions", config.motions))
    return "; ".join(f"{name} {', '.join(entry.split()[0] for entry in entries)}" for name, entries in lists)


class WordsNetwork(nn.Module):
    """Predicts the clean grid from a noisy one.

    `forward(x, t, cond)` with x [B, V, F, 4, S, S], t [B, V, F] in [0, 1] and cond: `words` [B, W] (zeros: no caption),
    `elevation`, `azimuth` [B, V, F] degrees, the azimuth counted from the object's front, and `instant` [B, V, F] in
    [0, 1), the share of the motion that has passed. Returns the prediction of x0, same shape as x.
    """

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.config = config
        C, places = config.width, (config.size // 8) ** 2
        told = len(config.words) + 2 * (2 * AZIMUTH_HARMONICS + 2)
        self.encoder = StemEncoder(config.channels, config.stem_widths, C)
        self.decoder = StemDecoder(config.channels, config.stem_widths, C)
        self.position = nn.Parameter(torch.randn(places, C) * 0.5 / math.sqrt(C))
        self.embed_noise = nn.Sequential(
            FullPrecisionLinear(NOISE_FREQUENCIES, C), nn.SiLU(), FullPrecisionLinear(C, C)
        )
        self.embed_told = nn.Sequential(
            FullPrecisionLinear(told, 2 * C), nn.SiLU(), FullPrecisionLinear(2 * C, 2 * C), nn.SiLU(),
            FullPrecisionLinear(2 * C, C),
        )  # fmt: skip
        self.told_to_tokens = nn.Linear(C, places * C)
        self.modulation = FullPrecisionLinear(C, 6 * C)
        # A colour is a factor on the whole object: a product that layers are slow to find.
        self.shade = FullPrecisionLinear(len(config.words), 2 * config.stem_widths[0])
        axes = ["views" if index % 2 == 0 else "frames" for index in range(config.depth)]
        self.layers = nn.ModuleList(Layer(C, config.head_dim, axis) for axis in axes)
        self.norm = nn.LayerNorm(C)
        nn.init.zeros_(self.shade.weight)
        nn.init.zeros_(self.shade.bias)
        open_gates(self.modulation, self.layers)

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """See the class."""
        B, V, F_ = x.shape[:3]
        cells = rearrange(x, "b v f c h w -> (b v f) c h w").to(self.position.dtype)
        half, quarter = self.encoder(cells.contiguous(memory_format=torch.channels_last))
        features = self.encoder.down_quarter(quarter)
        tokens = rearrange(features, "(b v f) c h w -> b v f (h w) c", b=B, v=V, f=F_)
        told = self._told(cond)
        placed = rearrange(
            self.told_to_tokens(F.silu(told).to(tokens)), "b v f (p c) -> b v f p c", p=len(self.position)
        )
        tokens = tokens + self.position + placed
        embedding = self.embed_noise(noise_features(t)) + told
        modulation = rearrange(self.modulation(F.silu(embedding)), "b v f (s c) -> b v f 1 s c", s=6)
        for layer in self.layers:
            tokens = layer(tokens, modulation)
        features = rearrange(self.norm(tokens), "b v f (h w) c -> (b v f) c h w", h=self.config.size // 8)
        shade = self.shade(cond["words"].float()).repeat_interleave(V * F_, dim=0)
        x0 = self.decoder(features.contiguous(memory_format=torch.channels_last), half, quarter, shade)
        # An empty cell is white and transparent: start there, not at grey.
        empty = x0.new_ones(self.config.channels, 1, 1)
        empty[3:] = -1
        return rearrange(x0 + empty, "(b v f) c h w -> b v f c h w", b=B, v=V, f=F_)

    def _told(self, cond: dict[str, Tensor]) -> Tensor:
        """Caption, camera and instant of each cell, [B, V, F, C]; instants turn like an angle, as motions repeat."""
        camera = camera_features(cond["elevation"].float(), cond["azimuth"].float())
        instant = camera_features(torch.zeros_like(cond["instant"]).float(), 360 * cond["instant"].float())
        words = cond["words"].float()[:, None, None].expand(*camera.shape[:3], -1)
        return self.embed_told(torch.cat([words, camera, instant], dim=-1))
