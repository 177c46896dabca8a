"""What a run leaves behind: grid folder, contact sheet, diagonal video, extra forms; written row by row."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from viewtime.configs.sample import SampleConfig
from viewtime.grid import FrameGrid, write_grid
from viewtime.images import composite, contact_sheet, write_image
from viewtime.sample.grid_model import ModelTraits
from viewtime.sample.pipeline import Job, provenance, read_row
from viewtime.sample.plan import Window
from viewtime.sample.store import CellStore
from viewtime.video import write_gif, write_video

SHEET_COLUMNS = 12


def write_outputs(job: Job, store: CellStore, traits: ModelTraits, config: SampleConfig, folder: Path) -> list[Path]:
    """Write everything that was asked for; memory holds one row at a time (the D-NeRF form: the whole grid)."""
    problem = job.plan.problem
    first = read_row(store, 0)
    shape = (problem.views, problem.frames, *first.shape[1:])
    facts = (job.known, job.cameras, job.prepared.fps, provenance(job, traits))
    written = [
        write_grid(folder / "grid", shape, lambda view: read_row(store, view), *facts),  # type: ignore[arg-type]
        _sheet(job, store, folder / "contact_sheet.png"),
        write_video(folder / "diagonal.mp4", _video(_diagonal(job, store)), job.prepared.fps),
    ]
    if "gif" in config.save:
        for view in range(problem.views):
            row = _video(read_row(store, view))
            written.append(write_gif(folder / f"view_{view:03d}.gif", row, job.prepared.fps))
    if "png" in config.save:
        row_of = lambda view: read_row(store, view)  # noqa: E731
        written.append(write_grid(folder / "grid_png", shape, row_of, *facts, lossless=True))  # type: ignore[arg-type]
    if config.dnerf:
        written.append(FrameGrid.load(folder / "grid").to_dnerf(folder / "dnerf"))
    return written


def write_stream(job: Job, store: CellStore, window: Window, folder: Path) -> None:
    """PNGs of the cells whose final content a window made: stream/view_003/frame_0012.png."""
    for view, frame in sorted(window.sampled):
        if job.plan.final_producer((view, frame)) == window.index:
            cell = store.read([(view, frame)])[0]
            path = folder / f"view_{view:03d}" / f"frame_{frame:04d}.png"
            write_image(path, rearrange(cell, "c h w -> h w c"))


def _video(frames: Tensor):
    """[F, C, H, W] -> floats [F, H, W, 3] on white."""
    return rearrange(composite(frames), "f c h w -> f h w c").numpy()


def _diagonal(job: Job, store: CellStore) -> Tensor:
    """View and time advance together: one way around the object over the video, [F or V, C, H, W]."""
    problem = job.plan.problem
    length = max(problem.views, problem.frames)
    cells = [
        (step * problem.views // length % problem.views, step * problem.frames // length) for step in range(length)
    ]
    return store.read(cells)


def _sheet(job: Job, store: CellStore, path: Path) -> Path:
    problem = job.plan.problem
    columns = sorted({round(float(c)) for c in torch.linspace(0, problem.frames - 1, SHEET_COLUMNS)})
    cells = [store.read([(view, frame) for frame in columns]) for view in range(problem.views)]
    azimuth = job.cameras.azimuth
    labels = ["input", *(f"{float(azimuth[view, 0]):.0f} deg" for view in range(1, problem.views))]
    return contact_sheet(
        torch.stack(cells), path, row_labels=labels, column_labels=[f"t = {frame}" for frame in columns]
    )
