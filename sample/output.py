"""What a run leaves behind: grid folder, contact sheet, diagonal video, extra forms; written row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from viewtime.configs.schema.sample import SampleConfig
from viewtime.dnerf import write_dnerf
from viewtime.grid import FrameGrid, write_grid
from viewtime.images import composite, contact_sheet, write_image
from viewtime.sample.plan.plan import Cell, Window
from viewtime.sample.run.job import Job
from viewtime.sample.run.store import CellStore
from viewtime.video import write_gif, write_video

SHEET_COLUMNS = 12
ReadCells = Callable[[Sequence[Cell]], Tensor]


def write_outputs(job: Job, read: ReadCells, facts: dict[str, Any], config: SampleConfig, folder: Path) -> list[Path]:
    """Write everything that was asked for; memory holds one row at a time (the D-NeRF form: the whole grid).

    Args:
        read: finished cells, [N, C, H, W] in [0, 1].
        facts: provenance.
    """
    written = [
        _grid(job, read, facts, folder / "grid"),
        _sheet(job, read, folder / "contact_sheet.png"),
        write_video(folder / "diagonal.mp4", _video(_diagonal(job, read)), job.prepared.fps),
    ]
    if "gif" in config.save:
        for view in range(job.plan.problem.views):
            row = _video(_row(job, read, view))
            written.append(write_gif(folder / f"view_{view:03d}.gif", row, job.prepared.fps))
    if "png" in config.save:
        written.append(_grid(job, read, facts, folder / "grid_png", lossless=True))
    if config.dnerf:
        written.append(write_dnerf(FrameGrid.load(folder / "grid"), folder / "dnerf"))
    return written


def write_small_grid(job: Job, read: ReadCells, facts: dict[str, Any], folder: Path) -> Path:
    """The grid as it was sampled, without loss, where an upsampler makes the outputs."""
    return _grid(job, read, facts, folder / "grid_small", lossless=True)


def write_stream(job: Job, store: CellStore, window: Window, folder: Path) -> None:
    """PNGs of the cells whose final content a window made: stream/view_003/frame_0012.png."""
    for view, frame in sorted(window.sampled):
        if job.plan.final_producer((view, frame)) == window.index:
            cell = store.read([(view, frame)])[0]
            path = folder / f"view_{view:03d}" / f"frame_{frame:04d}.png"
            write_image(path, rearrange(cell, "c h w -> h w c"))


def _row(job: Job, read: ReadCells, view: int) -> Tensor:
    """One view [F, C, H, W]."""
    return read([(view, frame) for frame in range(job.plan.problem.frames)])


def _grid(job: Job, read: ReadCells, facts: dict[str, Any], folder: Path, lossless: bool = False) -> Path:
    problem = job.plan.problem
    shape = (problem.views, problem.frames, *read([(0, 0)]).shape[1:])
    known = (job.known, job.true_cameras, job.prepared.fps, facts)
    row = lambda view: _row(job, read, view)  # noqa: E731
    return write_grid(folder, shape, row, *known, lossless=lossless)  # type: ignore[arg-type]


def _video(frames: Tensor):
    """[F, C, H, W] -> floats [F, H, W, 3] on white."""
    return rearrange(composite(frames), "f c h w -> f h w c").numpy()


def _diagonal(job: Job, read: ReadCells) -> Tensor:
    """View and time advance together: one way around the object over the video, [F or V, C, H, W]."""
    problem = job.plan.problem
    length = max(problem.views, problem.frames)
    cells = [
        (step * problem.views // length % problem.views, step * problem.frames // length) for step in range(length)
    ]
    return read(cells)


def _sheet(job: Job, read: ReadCells, path: Path) -> Path:
    problem = job.plan.problem
    columns = sorted({round(float(c)) for c in torch.linspace(0, problem.frames - 1, SHEET_COLUMNS)})
    cells = [read([(view, frame) for frame in columns]) for view in range(problem.views)]
    angles = job.cameras.azimuth[1:, 0].tolist()
    places = (f"{angle:.0f} deg" if job.cameras_known else f"view {view}" for view, angle in enumerate(angles, 1))
    labels = ["input", *places]
    return contact_sheet(
        torch.stack(cells), path, row_labels=labels, column_labels=[f"t = {frame}" for frame in columns]
    )
