"""Our small model of captions (`model/mini/words.py`): one network as image, multi-view, video or grid guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.model.denoiser import Conditioning, Denoiser
from viewtime.model.mini.words import WordsConfig, read_words
from viewtime.model.registry import build_denoiser
from viewtime.weights import load_weights, read_header

from ..noise import scaled_linear_schedule
from ..resize import resized
from .base import Draws, Kind, NoisePrediction, Rendered, Traits, check_layout
from .grid import as_sigma

GRIDS = {
    Kind.IMAGE: "b v f ... -> (b v f) 1 1 ...",
    Kind.VIDEO: "b v f ... -> (b v) 1 f ...",
    Kind.MULTI_VIEW: "b v f ... -> b v f ...",
    Kind.GRID: "b v f ... -> b v f ...",
}
"""What the network looks at together, as a batch of its grids."""


@dataclass(frozen=True)
class WordsPrompt:
    """A caption, and the model's words in it, [W]."""

    text: str
    words: Tensor


class WordsGuidance:
    """See `Guidance`. Like the analytic guidance it is told the instants of a render, as shares of the motion.

    Args:
        denoiser: of a `WordsNetwork`.
        views, frames: see `Traits`.
    """

    def __init__(
        self, name: str, denoiser: Denoiser, config: WordsConfig, kind: Kind, *, views: int = 1, frames: int = 1
    ) -> None:
        self.denoiser, self.config = denoiser, config
        size, schedule = (config.size, config.size), scaled_linear_schedule()
        self.traits = Traits(name, kind, size, (config.channels, *size), schedule, views=views, frames=frames)
        self._times = torch.zeros(1)

    def encode(self, rendered: Rendered, draws: Draws) -> Tensor:
        """See `Guidance`; the render over white, and its opacity."""
        del draws
        check_layout(self.traits, *rendered.color.shape[1:3])
        self._times = torch.zeros(rendered.color.shape[2]) if rendered.times is None else rendered.times
        return resized(torch.cat([rendered.on_white(), rendered.opacity], dim=3), self.traits.size) * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        """See `Guidance`; over white."""
        return (latents[:, :, :, :3] / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        cameras: Sequence[Cameras],
        prompt: WordsPrompt,
        *,
        unconditional: bool = True,
    ) -> NoisePrediction:
        """See `Guidance`. The unconditional branch knows cameras and instants, but no words."""
        B, V, F = noisy.shape[:3]
        if len(self._times) != F:  # nothing was rendered: the whole motion
            self._times = torch.arange(F, dtype=torch.float64) / F
        layout, kind = GRIDS[self.traits.kind], self.traits.kind
        instant = torch.remainder(self._times, 1).to(noisy.device, torch.float32).expand(B, V, F)
        places = {name: torch.stack([getattr(one, name) for one in cameras]).to(noisy.device, torch.float32)
                  for name in ("elevation", "azimuth")}  # fmt: skip
        cond = {name: rearrange(value, layout) for name, value in (places | {"instant": instant}).items()}
        grids, a = rearrange(noisy, layout), self.traits.schedule.at(rearrange(timesteps, layout)[:, 0, 0])
        words = prompt.words.to(noisy.device).expand(len(grids), -1)
        found = [self._noise(grids, a, cond | {"words": words})]
        if unconditional:
            found.append(self._noise(grids, a, cond | {"words": torch.zeros_like(words)}))
        back = [value.reshape(noisy.shape) if kind in (Kind.IMAGE, Kind.VIDEO) else value for value in found]
        return NoisePrediction(back[0], back[-1])

    def _noise(self, grids: Tensor, alpha_bar: Tensor, cond: Conditioning) -> Tensor:
        """The noise in grids [N, V, F, C, h, w], from the clean value that the denoiser sees."""
        factor, sigma = as_sigma(self.denoiser, alpha_bar)
        clean = self.denoiser(grids.float() * factor[:, None, None, None, None, None], sigma, cond).to(grids)
        a = alpha_bar.to(grids)[:, None, None, None, None, None]
        return (grids - a.sqrt() * clean) / (1 - a).sqrt()


def read_config(path: Path) -> WordsConfig:
    """What a weight file of a `WordsNetwork` knows.

    Raises:
        UserError: a file of another model.
    """
    from viewtime.configs.load import build

    section = read_header(path)[0].get("model")
    if not isinstance(section, dict) or section.get("name") != "mini-words":
        raise UserError(f"{path} holds no mini-words model, which is what takes captions of a few words")
    return build(WordsConfig, section["config"], where=f"{path}: model config")


def open_words(name: str, path: Path, kind: Kind, device: torch.device | str, views: int = 1) -> WordsGuidance:
    """The guidance of a weight file; raises like `read_config`, and for tensors that do not fit."""
    config = read_config(path)
    denoiser = build_denoiser("mini-words", read_header(path)[0]["model"]["config"])
    load_weights(denoiser.network, path, dtype=torch.float32)
    denoiser.to(device).eval().requires_grad_(False)
    return WordsGuidance(name, denoiser, config, kind, views=views)


def words_prompt(caption: str, config: WordsConfig) -> WordsPrompt:
    """The caption as the network takes it; raises like `read_words`."""
    return WordsPrompt(caption, read_words(caption, config))
