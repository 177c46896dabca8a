"""The D-NeRF / nerfstudio form of a grid: `transforms_train.json` with a time per frame, RGBA or RGB PNGs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from einops import rearrange

from viewtime.cameras import Cameras, opencv_from_opengl, opengl_from_opencv, orbit_from_camera_to_world
from viewtime.errors import UserError
from viewtime.files import atomic_folder
from viewtime.grid import FrameGrid
from viewtime.images import read_image, write_image
from viewtime.where import find_grid


def open_grid(folder: str | Path) -> FrameGrid:
    """The grid that a path means (see `find_grid`), in viewtime's form (grid.json) or D-NeRF's (transforms_train.json).

    Raises:
        UserError: neither is there, there are several, or it is damaged.
    """
    folder = find_grid(folder)
    own = (folder / "grid.json").is_file() or not (folder / "transforms_train.json").is_file()
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
    with atomic_folder(folder) as temporary:
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
    """Read a folder whose cameras look at the origin.

    Cells are grouped by time (columns) and, in the order they are listed at each time, by view (rows). D-NeRF's own
    scenes have one camera per instant; they become grids of one view with a moving camera.

    Raises:
        UserError: the file or an image is missing, the instants have unequal numbers of views, or a camera is no orbit.
    """
    folder = Path(folder)
    path = folder / "transforms_train.json"
    if not path.is_file():
        raise UserError(f"{folder} has no transforms_train.json")
    try:
        record = json.loads(path.read_text())
        cells = record["frames"]
        angle_x = float(record["camera_angle_x"])
        times = sorted({float(cell["time"]) for cell in cells})
        columns = [[cell for cell in cells if float(cell["time"]) == time] for time in times]
        matrices = [[cell["transform_matrix"] for cell in column] for column in columns]
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{path} is not in the D-NeRF form: {error!r}") from error
    counts = {len(column) for column in columns}
    if len(counts) != 1:
        raise UserError(
            f"{path}: {min(counts)} to {max(counts)} views per instant; a grid needs the same number at each"
        )
    images = [[torch.from_numpy(read_image(_image_path(folder, cell)).copy()) for cell in column] for column in columns]
    frames = rearrange(torch.stack([torch.stack(column) for column in images]), "f v h w c -> v f c h w")
    H, W = frames.shape[-2:]
    c2w = opencv_from_opengl(rearrange(torch.tensor(matrices), "f v i j -> v f i j"))
    elevation, azimuth, distance = orbit_from_camera_to_world(c2w)
    fov_y = 2 * math.degrees(math.atan(math.tan(angle_x / 2) * H / W))
    return FrameGrid(
        frames.float().contiguous() / 255.0,
        torch.ones(frames.shape[:2], dtype=torch.bool),
        Cameras(elevation, azimuth, distance, fov_y),
        float(record.get("fps", 12.0)),
        {"source": "D-NeRF form"},
    )


def _image_path(folder: Path, cell: dict) -> Path:
    path = folder / cell["file_path"]
    return path if path.suffix else path.with_suffix(".png")
