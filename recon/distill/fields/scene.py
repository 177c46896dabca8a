"""What a step looks at, and what every kind of scene can do: show it, part by part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.cameras import Cameras

from ..guidance.base import Draws, Rendered
from .background import Background

CHANNELS = {"foreground": 3, "opacity": 1, "background": 3, "displacement": 3}
TOTAL = sum(CHANNELS.values())


@dataclass(frozen=True)
class Shot:
    """Pictures to make of a scene.

    Attributes:
        cameras: one per scene of the batch, each [V, F].
        times: [F] instants in [0, 1], float64, shared by the batch.
        height, width: pixels.
        nudge: [2, 3] added to the places that all rays start from, and to their unit directions, which are made unit
            again; a hash field's alone. None: nothing.
    """

    cameras: tuple[Cameras, ...]
    times: Tensor
    height: int
    width: int
    nudge: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int, int]:
        """(B, V, F)."""
        V, F = self.cameras[0].shape
        return len(self.cameras), V, F

    def directions(self) -> Tensor:
        """Unit directions through the pixels, [B, V, F, H, W, 3]."""
        directions = torch.stack([cameras.rays(self.height, self.width)[1] for cameras in self.cameras])
        return directions if self.nudge is None else nn.functional.normalize(directions + self.nudge[1], dim=-1)

    def origins(self) -> Tensor:
        """Where the rays start, [B, V, F, 3]."""
        origins = torch.stack([cameras.position() for cameras in self.cameras])
        return origins if self.nudge is None else origins + self.nudge[0]


@dataclass(frozen=True)
class Plan:
    """Everything that was drawn at random for a shot, so that it can be rendered again.

    Attributes:
        shot: what to show. parts: number of parts that it is rendered in.
        replacement: [F, 3], see `Background.replacement`. held: what the kind of scene needs.
    """

    shot: Shot
    parts: int
    replacement: Tensor
    held: Any = None


class Scene(nn.Module):
    """A field or Gaussians, with a background.

    Attributes:
        background: its network.
        moving: whether instants differ; static stages show t = 0.
    """

    background: Background

    @property
    def moving(self) -> bool:
        raise NotImplementedError

    @moving.setter
    def moving(self, on: bool) -> None:
        raise NotImplementedError

    def advance(self, step: int, spread: float) -> None:
        """The state of all schedules at a step of the stage; spread: of the starting blob, see `blob_bias`."""
        raise NotImplementedError

    def look_around(self, step: int, draws: Draws) -> None:
        """Bring what the renderer knows of the field up to date, where it is due at a step of the stage."""

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the names that learning rates are given for."""
        raise NotImplementedError

    def plan(self, shot: Shot, draws: Draws, *, training: bool = True) -> Plan:
        """Draw what is random in a shot; nothing is if not `training`, and the background stays."""
        raise NotImplementedError

    def draw(self, plan: Plan, part: int) -> Tensor:
        """One part of a shot: pixels [n, TOTAL] in the order of `CHANNELS`; the parts joined are (b v f h w)."""
        raise NotImplementedError

    def replacement(self, shot: Shot, draws: Draws, training: bool) -> Tensor:
        """For `Plan`."""
        frames = len(shot.times)
        return self.background.replacement(frames, draws) if training else torch.full((frames, 3), torch.nan)

    def behind(self, directions: Tensor, replacement: Tensor) -> Tensor:
        """Colour past the object for directions [N, 3] with the frames' replacements [N, 3]."""
        return torch.where(replacement.isnan(), self.background(directions), replacement.nan_to_num())


def paint(scene: Scene, plan: Plan) -> tuple[Tensor, Callable[[], None]]:
    """All pixels of a shot, [P, TOTAL], and what to call after the loss's backward pass.

    A shot of several parts is rendered without gradient first; the second call renders part after part again and sends
    the pixels' gradients into it, so that memory is that of one part (as ARF, Zhang et al. 2022, section 3.4).
    """
    if plan.parts == 1 or not torch.is_grad_enabled():
        return torch.cat([scene.draw(plan, part) for part in range(plan.parts)]), lambda: None
    with torch.no_grad():
        parts = [scene.draw(plan, part) for part in range(plan.parts)]
    pixels = torch.cat(parts).requires_grad_()

    def send() -> None:
        if pixels.grad is None:
            return
        for part, gradient in enumerate(pixels.grad.split([len(value) for value in parts])):
            scene.draw(plan, part).backward(gradient)

    return pixels, send


@dataclass(frozen=True)
class Shown:
    """What a shot gave: `rendered` for the guidances, and Σ w d per pixel, [B, V, F, H, W, 3], edges of the cube."""

    rendered: Rendered
    displacement: Tensor


def shown(pixels: Tensor, shot: Shot) -> Shown:
    """Pixels [P, TOTAL] as pictures."""
    names = dict(zip("bvf", shot.grid))
    cells = rearrange(pixels, "(b v f h w) c -> b v f c h w", **names, h=shot.height, w=shot.width)
    ends = list(accumulate(CHANNELS.values()))
    foreground, opacity, background, displacement = (
        cells[:, :, :, first:last] for first, last in zip([0, *ends], ends)
    )  # fmt: skip
    color = foreground + (1 - opacity) * background
    rendered = Rendered(color, opacity, foreground, shot.cameras, shot.times)
    return Shown(rendered, rearrange(displacement, "b v f c h w -> b v f h w c"))
