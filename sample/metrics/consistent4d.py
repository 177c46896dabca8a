"""Consistent4D's test set in its published layout (SV4D's tables 1, 2): OBJECT/eval_0 … eval_3, frames 0.png, 1.png ….

The input is seen from azimuth 0, the four truths from -75, 15, 105 and 195 degrees at the input's elevation and
distance (its readme), so a prediction is sampled with `--views 4 --camera.azimuths -75 15 105 195`. The objects come
from Objaverse: a model that trained on all of it knows them, and SV4D left them out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange

from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import composite
from viewtime.video import read_video

VIEW = re.compile(r"eval_\d+")


def objects_in(path: Path) -> list[Path]:
    """Folders of objects in this layout: the folder itself, or those in it; none where it has another layout."""
    if _has_views(path):
        return [path]
    return sorted(folder for folder in path.iterdir() if _has_views(folder)) if path.is_dir() else []


def _has_views(folder: Path) -> bool:
    """Whether a folder is an object's, of which views may be missing."""
    return folder.is_dir() and any(VIEW.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())


def read_object(folder: Path) -> FrameGrid:
    """The views of one object as a grid [V, F, 3, H, W] on white, without cameras and without an input view.

    Raises:
        UserError: views are missing between eval_0 and the last, frames between a view's first and last, or the views'
            frames differ in number or size.
    """
    count = sum(child.is_dir() and VIEW.fullmatch(child.name) is not None for child in folder.iterdir())
    rows = []
    for view in range(count):
        if not (folder / f"eval_{view}").is_dir():
            raise UserError(f"{folder} holds {count} views, but no eval_{view}; they are numbered from 0")
        _refuse_gaps(folder / f"eval_{view}")
        video = read_video(folder / f"eval_{view}")
        rows.append(composite(rearrange(torch.from_numpy(video.frames).float() / 255, "f h w c -> f c h w")))
    shapes = sorted({f"{len(row)} frames of {row.shape[3]}×{row.shape[2]}" for row in rows})
    if len(shapes) > 1:
        raise UserError(f"the views of {folder} differ: {', '.join(shapes)}")
    frames = torch.stack(rows)
    return FrameGrid(frames, torch.zeros(frames.shape[:2], dtype=torch.bool), None, video.fps, {"id": folder.name})


def _refuse_gaps(view: Path) -> None:
    """Frames are compared by their place, so a picture that is missing would shift all later ones."""
    numbers = sorted(int(file.stem) for file in view.iterdir() if file.stem.isdecimal())
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) if numbers else []
    if missing:
        raise UserError(f"{view} has frames {numbers[0]} to {numbers[-1]}, but no frame {missing[0]}")


def open_pair(pred: Path, gt: Path) -> tuple[FrameGrid, FrameGrid]:
    """A prediction and its truth; where the truth has this layout, of a grid of ours only the views that it made.

    They are compared by index then: the layout has no cameras.
    """
    made = read_object(pred) if objects_in(pred) else open_grid(pred)
    if not objects_in(gt):
        return made, open_grid(gt)
    truth = read_object(gt)
    if len(made.frames) == len(truth.frames) + 1 and bool(made.known[0].all()):
        made = made[1:]
    return replace(made, cameras=None, fps=truth.fps), truth
