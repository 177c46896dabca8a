"""What goes wrong without an error: a scene that does not move, fades away or fills up."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from viewtime.log import log

from ..fields.scene import Shown

MEMORY = 0.95  # of the running means
LOOKS = 100  # before anything is said
STILL = 2e-3  # of the cube's edge, or of the colours' range
EMPTY, FULL = 2e-3, 0.98  # mean opacity


def motion_of(shown: Shown) -> float:
    """How much the object moves over a video.

    The mean length of the displacement on the object, in edges of the cube, where the field has one; else the mean
    change of colour and opacity between neighbouring frames, where there is an object.
    """
    opacity = shown.rendered.opacity.detach()
    if shown.displacement.abs().max() > 0:
        length = shown.displacement.detach().norm(dim=-1)[:, :, :, None]
        return float(length.sum() / opacity.sum().clamp_min(1e-6))
    both = torch.cat([shown.rendered.foreground.detach(), opacity], dim=3)
    there = opacity.amax(dim=2, keepdim=True) > 0.5
    change = both.diff(dim=2).abs().mean(dim=3, keepdim=True) * there
    frames = change.shape[2]
    return float(change.sum() / (frames * there.sum()).clamp_min(1))


@dataclass
class Watch:
    """Running means of one stage, and what was said already."""

    stage: str
    remedy: str
    means: dict[str, float] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def look(self, shown: Shown, *, video: bool) -> None:
        """Take in a shot; says what is wrong once per stage."""
        self._take("opacity", float(shown.rendered.opacity.detach().mean()))
        if video:
            self._take("motion", motion_of(shown))
        opacity, motion = self.means["opacity"], self.means.get("motion")
        if motion is not None and self.looks["motion"] >= LOOKS and motion < STILL:
            self._say("still", f"hardly moves (motion {motion:.1e} after {self.looks['motion']} videos): {self.remedy}")
        if self.looks["opacity"] >= LOOKS and opacity < EMPTY:
            self._say(
                "empty",
                f"fades away (mean opacity {opacity:.1e}): lower --stages.{self.stage}.sparsity, or raise the weights "
                "of the guidances",
            )
        if self.looks["opacity"] >= LOOKS and opacity > FULL:
            self._say(
                "full",
                f"fills the picture (mean opacity {opacity:.3f}): raise --stages.{self.stage}.sparsity, or look from "
                "further away",
            )

    def _take(self, name: str, value: float) -> None:
        before = self.means.get(name, value)
        self.means[name] = MEMORY * before + (1 - MEMORY) * value
        self.looks[name] = self.looks.get(name, 0) + 1

    def _say(self, what: str, text: str) -> None:
        if what not in self.said:
            self.said.add(what)
            log.warning("stage %s: the scene %s", self.stage, text)

    def state(self) -> dict:
        """Plain values for `restore`."""
        return {"means": self.means, "looks": self.looks, "said": sorted(self.said)}

    def restore(self, state: dict) -> None:
        """Go on from a state."""
        self.means, self.looks, self.said = dict(state["means"]), dict(state["looks"]), set(state["said"])


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no value is NaN or infinite; the host asks once."""
    return not tensors or bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
