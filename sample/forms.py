"""The forms in which `Pipeline.__call__` returns a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from einops import rearrange
from PIL import Image

from viewtime.grid import FrameGrid
from viewtime.images import to_uint8

OutputType = Literal["grid", "pil", "np", "pt"]


@dataclass(frozen=True)
class PipelineOutput:
    """What `Pipeline.__call__` returns with `return_dict`: the frames in the form asked for, and the grid itself."""

    frames: Any
    grid: FrameGrid


def in_form(grid: FrameGrid, output_type: OutputType) -> Any:
    """A grid as itself, as a tensor, as an array with channels last, or as lists of pictures."""
    if output_type == "grid":
        return grid
    if output_type == "pt":
        return grid.frames
    last = rearrange(grid.frames, "v f c h w -> v f h w c").numpy()
    return last if output_type == "np" else [[Image.fromarray(frame) for frame in row] for row in to_uint8(last)]
