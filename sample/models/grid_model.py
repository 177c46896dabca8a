"""What the runner asks of a model: conditions of a window, the denoiser, latents to pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.model.denoiser import Conditioning, Denoiser
from viewtime.sample.plan.plan import Cell, Direction, Window
from viewtime.sample.solver.guidance import GuidanceKind


@dataclass(frozen=True)
class Request:
    """One direction of one window.

    Attributes:
        views: rows of the rectangle.
        direction: frames in the network's order, and the cells that condition.
        cameras: of the whole grid [V, F]; azimuth absolute, as the user gave them.
        read: cells -> their clean content [N, C, H, W] in [0, 1]; one function for all directions of a window, so that
            a model may keep what it made of the cells.
    """

    window: Window
    direction: Direction
    cameras: Cameras
    read: Callable[[Sequence[Cell]], Tensor]

    @property
    def views(self) -> tuple[int, ...]:
        """Rows of the rectangle."""
        return self.window.views

    @property
    def frames(self) -> tuple[int, ...]:
        """Columns of the rectangle in the network's order."""
        return self.direction.frames

    def known(self) -> Tensor:
        """Cells of the rectangle that condition this direction, bool [V, F]."""
        chosen = set(self.direction.conditions)
        return torch.tensor([[(view, frame) in chosen for frame in self.frames] for view in self.views])

    def known_cells(self) -> Tensor:
        """Content of the conditioning cells inside the rectangle, zero elsewhere; [V, F, C, H, W]."""
        known = self.known()
        inside = [
            (view, frame) for view in self.views for frame in self.frames if (view, frame) in self.direction.conditions
        ]
        content = self.read(inside) if inside else self.read([self.direction.conditions[0]])[:0]
        grid = content.new_zeros(len(self.views), len(self.frames), *content.shape[1:])
        grid[known] = content
        return grid


@dataclass(frozen=True)
class SamplerDefaults:
    """How a model is sampled unless the user says otherwise; see `SamplerOptions`."""

    name: str = "euler"
    steps: int = 20
    guidance: GuidanceKind = "none"
    guidance_low: float = 1.0
    guidance_high: float = 2.0
    sigma_max: float = 700.0
    sigma_min: float = 0.002
    shift: float = 1.0
    frame_noise: str = "independent"
    alpha_range: tuple[float, float] = (0.0, 1.0)

    def of_file(self, trained: dict[str, Any]) -> SamplerDefaults:
        """These defaults with what the metadata of a weight file (`trained`) say instead."""
        told = {item.name: trained[item.name] for item in fields(self) if item.name in trained}
        return replace(self, **{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()})


@dataclass(frozen=True)
class ModelTraits:
    """What plans and the pipeline must know of a model.

    Attributes:
        name: for people and for provenance.
        window_views, window_frames, inside, keep_input: see `Problem`.
        size: height of a cell in pixels.
        width: of a cell in pixels; None for squares.
        channels: 3 (RGB) or 4 (RGBA) of the decoded cells.
        plan: the plan it was made for.
        plan_frames: frames of a window in that plan; None: `window_frames`.
        sees_cameras: whether it is told the cameras; where it is not (4real), nobody knows where its views are.
        azimuths, elevation: cameras it was made for, degrees; None where any will do.
        needs_reference: the views of frame 0 must be made or given before anything else (SV4D).
        input_last: see `Problem`.
        object_share: share of the cell that the object filled in training.
        sampler: how it is sampled by default.
    """

    name: str
    window_views: int
    window_frames: int
    size: int
    channels: int
    inside: bool = True
    keep_input: bool = True
    plan: str = "joint"
    plan_frames: int | None = None
    sees_cameras: bool = True
    azimuths: tuple[float, ...] | None = None
    elevation: float = 0.0
    needs_reference: bool = False
    input_last: bool = False
    object_share: float = 0.9
    sampler: SamplerDefaults = field(default_factory=SamplerDefaults)
    width: int | None = None

    @property
    def cell(self) -> tuple[int, int]:
        """(height, width) of a cell in pixels."""
        return self.size, self.size if self.width is None else self.width

    @property
    def novel_views(self) -> int:
        """Novel views of one window."""
        return self.window_views - 1 if self.inside else self.window_views


class GridModel(Protocol):
    """A model that the runner can sample."""

    traits: ModelTraits
    denoiser: Denoiser

    @property
    def device(self) -> torch.device:
        """Where the denoiser computes."""
        ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> GridModel:
        """Move the weights; returns itself."""
        ...

    def save(self, folder: Path) -> Path:
        """Write the weights with the config in their metadata, so that `load_model` reads them again."""
        ...

    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a cell as the denoiser sees it."""
        ...

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning | None]:
        """Conditional and unconditional conditioning of one window, batch axis first (size 1)."""
        ...

    def clean(self, request: Request) -> tuple[Tensor, Tensor] | None:
        """(known [V, F], values [V, F, C, h, w] as the denoiser sees them), or None where nothing in it is known."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, C, h, w] -> cells [V, F, C', H, W] in [0, 1]."""
        ...


def stack_conditions(conditions: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of several windows as one batch."""
    return {name: torch.cat([cond[name] for cond in conditions]) for name in conditions[0]}
