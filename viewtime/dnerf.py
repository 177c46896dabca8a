"""The D-NeRF / nerfstudio form of a grid: `transforms_train.json` with a time per frame, RGBA or RGB PNGs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from einops import rearrange
from msgspec import Meta

from viewtime.cameras import Cameras, opencv_from_opengl, opengl_from_opencv, orbit_from_camera_to_world
from viewtime.errors import UserError
from viewtime.files import atomic_folder
from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid
from viewtime.image_files import is_file, read_image
from viewtime.images import write_image
from viewtime.json_files import read_json
from viewtime.lens import Lens
from viewtime.where import find_grid

# The file that every such folder holds, and all else that `write_dnerf` puts there.
DNERF_FILES = ("transforms_train.json", (r"train/r_\d{3,}_\d{3,}\.png",))
TRANSFORMS = ("transforms_train.json", "transforms.json")
PIN_HOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


@dataclass(frozen=True, kw_only=True)
class LensRecord:
    """nerfstudio's names of intrinsics, of a whole file or of one frame; None where it does not say."""

    w: float | None = None
    h: float | None = None
    fl_x: float | None = None
    fl_y: float | None = None
    cx: float | None = None
    cy: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    k4: float | None = None
    p1: float | None = None
    p2: float | None = None


@dataclass(frozen=True, kw_only=True)
class CellRecord(LensRecord):
    """One frame of a transforms file."""

    file_path: str
    transform_matrix: list[list[float]]
    time: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None


@dataclass(frozen=True, kw_only=True)
class TransformsRecord(LensRecord):
    """transforms_train.json and transforms.json."""

    frames: list[CellRecord]
    camera_angle_x: Annotated[float, Meta(gt=0, lt=math.pi)] | None = None
    camera_model: str = "OPENCV"
    fps: Annotated[float, Meta(gt=0, le=1e6)] = 12.0


def open_grid(folder: str | Path) -> FrameGrid:
    """The grid that a path means (see `find_grid`): viewtime's own (grid.json), or D-NeRF's and nerfstudio's.

    Raises:
        UserError: neither is there, there are several, or it is damaged.
    """
    folder = find_grid(folder)
    own = (folder / "grid.json").is_file() or transforms_file(folder) is None
    return FrameGrid.load(folder) if own else read_dnerf(folder)


def write_dnerf(grid: FrameGrid, folder: str | Path) -> Path:
    """Write every cell as an image and its camera; time runs from 0 (first frame) to 1 (last).

    Raises:
        UserError: the grid has no cameras.
    """
    if grid.cameras is None:
        raise UserError("this grid has no cameras: the D-NeRF form needs one per cell")
    V, F, _, H, W = grid.shape
    matrices = opengl_from_opencv(grid.cameras.camera_to_world())
    focal = grid.cameras.intrinsics(H, W)[0, 0, 0, 0].item()
    frames = []
    with atomic_folder(folder, *DNERF_FILES) as temporary:
        (temporary / "train").mkdir()
        for view in range(V):
            for frame in range(F):
                name = f"train/r_{view:03d}_{frame:03d}"
                write_image(temporary / f"{name}.png", rearrange(grid.frames[view, frame], "c h w -> h w c"))
                frames.append(
                    {
                        "file_path": f"./{name}",
                        "time": frame / max(F - 1, 1),
                        "transform_matrix": matrices[view, frame].tolist(),
                    }
                )
        record = {
            "camera_angle_x": 2 * math.atan(W / (2 * focal)),
            "fl_x": focal, "fl_y": focal, "cx": W / 2, "cy": H / 2, "w": W, "h": H,
            "fps": grid.fps,
            "frames": frames,
        }  # fmt: skip
        (temporary / "transforms_train.json").write_text(json.dumps(record, indent=1))
    return Path(folder)


def read_dnerf(folder: str | Path) -> FrameGrid:
    """Read D-NeRF's transforms_train.json or nerfstudio's transforms.json.

    Cameras that all look at the origin with a level horizon become an orbit, others free cameras (scenes).

    Cells are grouped by time (columns; times that differ by rounding alone are one) and, in the order they are listed
    at each time, by view (rows). D-NeRF's own scenes have one camera per instant; they become grids of one view with
    a moving camera. A file without times is one instant. Lenses (off-centre, not square, distorted) are undone by
    resampling the pictures.

    Raises:
        UserError: the file or an image is missing or damaged, the instants have unequal numbers of views, a matrix is
            no rigid motion, or the images differ in size or in having alpha.
    """
    folder = Path(folder)
    path = transforms_file(folder)
    if path is None:
        raise UserError(f"{folder} has neither {' nor '.join(TRANSFORMS)}")
    record = read_json(path, TransformsRecord)
    if not record.frames:
        raise UserError(f"{path} lists no frame")
    columns = _columns(record.frames, path)
    images = [[_read_cell(folder, cell) for cell in column] for column in columns]
    height, width, channels = images[0][0].shape
    for cell, image in zip(chain(*columns), chain(*images), strict=True):
        if image.shape != (height, width, channels):
            raise UserError(
                f"{path}: {cell.file_path} is {_told(image)}, {columns[0][0].file_path} is {_told(images[0][0])}; "
                "all images must have one size, and all alpha or none"
            )
    lenses = [[_lens(record, cell, width, height, path) for cell in column] for column in columns]
    focal = lenses[0][0].fl_y
    straight = [
        [lens.straighten(image, focal) for image, lens in zip(*pair, strict=True)]
        for pair in zip(images, lenses, strict=True)
    ]
    frames = rearrange(torch.from_numpy(np.stack([np.stack(column) for column in straight])), "f v h w c -> v f c h w")
    matrices = torch.tensor([[_matrix(cell, path) for cell in column] for column in columns])
    fov_y = 2 * math.degrees(math.atan(height / (2 * focal)))
    return FrameGrid(
        frames.float().contiguous() / 255.0,
        torch.ones(frames.shape[:2], dtype=torch.bool),
        _cameras(opencv_from_opengl(rearrange(matrices, "f v i j -> v f i j")), fov_y),
        record.fps,
        {"source": "D-NeRF form"},
    )


def _cameras(camera_to_world: torch.Tensor, fov_y: float) -> Cameras:
    """An orbit where all cameras look at the origin with a level horizon; free ones otherwise."""
    try:
        elevation, azimuth, distance = orbit_from_camera_to_world(camera_to_world)
    except UserError:
        return FreeCameras.of(camera_to_world, fov_y)
    return Cameras(elevation, azimuth, distance, fov_y)


def _told(image: np.ndarray) -> str:
    return f"{image.shape[1]} × {image.shape[0]} px {'with' if image.shape[2] == 4 else 'without'} alpha"


def transforms_file(folder: Path) -> Path | None:
    """The file that lists a folder's cameras, or None."""
    return next((folder / name for name in TRANSFORMS if (folder / name).is_file()), None)


def _columns(cells: list[CellRecord], path: Path) -> list[list[CellRecord]]:
    """Cells by instant, in the order they are listed at each."""
    times = [cell.time for cell in cells]
    known = [time for time in times if time is not None]
    if len(known) not in (0, len(cells)):
        raise UserError(f"{path}: {len(cells) - len(known)} of {len(cells)} frames have no time; give all or none one")
    instants = same_instants(np.array(known)) if known else np.zeros(len(cells), int)
    columns = [[cells[i] for i in np.flatnonzero(instants == instant)] for instant in range(instants.max() + 1)]
    counts = {len(column) for column in columns}
    if len(counts) != 1:
        raise UserError(
            f"{path}: {min(counts)} to {max(counts)} views per instant; a grid needs the same number at each"
        )
    return columns


def same_instants(times: np.ndarray) -> np.ndarray:
    """Number of the instant of each time; steps far below the others and below 0.2 % of the whole are rounding."""
    order = np.argsort(times, kind="stable")
    gaps = np.diff(times[order])
    steps = np.unique(gaps[gaps > 0])
    limit = 0.0
    if len(steps) > 1:
        jumps = steps[1:] / np.maximum(steps[:-1], 1e-30)
        largest = int(jumps.argmax())
        if jumps[largest] >= 10 and steps[largest] <= 2e-3 * (times.max() - times.min()):
            limit = steps[largest]
    instants = np.empty(len(times), int)
    instants[order] = np.concatenate([[0], np.cumsum(gaps > limit)])
    return instants


def _read_cell(folder: Path, cell: CellRecord) -> np.ndarray:
    path = folder / cell.file_path
    return read_image(path if is_file(path) or path.suffix else path.with_name(f"{path.name}.png"))


def _lens(record: TransformsRecord, cell: CellRecord, width: int, height: int, path: Path) -> Lens:
    """A cell's lens for pictures of this size; the cell's own values go before the file's."""

    def value(name: str, default: float) -> float:
        own = getattr(cell, name)
        found = getattr(record, name) if own is None else own
        return default if found is None else found

    if record.camera_model not in PIN_HOLES:
        raise UserError(
            f"{path}: camera model {record.camera_model}; known are {', '.join(PIN_HOLES)}: undistort the images first"
        )
    across, down = width / value("w", width), height / value("h", height)  # of a picture that was scaled afterwards
    focal = value("fl_x", 0.0) * across
    if not focal and record.camera_angle_x:
        focal = width / (2 * math.tan(record.camera_angle_x / 2))
    focal_y = value("fl_y", 0.0) * down or focal
    if not focal > 0 or not focal_y > 0:
        raise UserError(f"{path} has neither camera_angle_x nor fl_x above 0: nobody knows the field of view")
    centre = (value("cx", width / 2 / across) * across, value("cy", height / 2 / down) * down)
    bent = {name: value(name, 0.0) for name in ("k1", "k2", "k3", "p1", "p2")}
    if value("k4", 0.0):
        raise UserError(f"{path}: k4 {value('k4', 0.0)}; distortion up to k3 is known: undistort the images first")
    return Lens(width, height, focal, focal_y, *centre, **bent)


def _matrix(cell: CellRecord, path: Path) -> list[list[float]]:
    rows = cell.transform_matrix
    if len(rows) not in (3, 4) or any(len(row) != 4 for row in rows):
        raise UserError(f"{path}: the transform_matrix of {cell.file_path} is no table of 4 × 4")
    return [*rows[:3], [0.0, 0.0, 0.0, 1.0]]
