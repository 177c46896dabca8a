"""The one object: a grid of frames, views × time."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from einops import rearrange
from msgspec import Meta
from PIL import Image
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.exact_film import read_exact, write_exact
from viewtime.files import atomic_folder
from viewtime.free_cameras import read_cameras
from viewtime.images import composite, read_image, sheet, to_uint8, write_image
from viewtime.json_files import finite_json, read_json
from viewtime.memory import check_memory
from viewtime.video import read_video, write_gif, write_video

FORMAT_VERSION = 1
# The file that every grid folder holds, and all else that `viewtime sample` and `viewtime render` put there.
GRID_FILES = (
    "grid.json",
    (r"(view|alpha)_\d{3,}\.mp4", r"cells_\d{3,}\.mkv", r"view_\d{3,}/frame_\d{3,}\.png", r"(depth|normals)\.npz"),
)

Size = Annotated[int, Meta(ge=1, le=1 << 16)]


@dataclass(frozen=True)
class FormatRecord:
    """The part of grid.json that every version of the format has."""

    version: int


@dataclass(frozen=True)
class GridRecord:
    """grid.json of this version."""

    V: Size
    F: Size
    C: Literal[3, 4]
    H: Size
    W: Size
    fps: Annotated[float, Meta(gt=0, le=1e6)]
    lossless: bool
    known: list[list[int | bool]]
    cameras: dict[str, Any] | None
    provenance: dict[str, Any]
    exact: bool = False


@dataclass(repr=False)
class FrameGrid:
    """Frames of one moving object, seen from V views at F instants.

    >>> frames, known = torch.rand(8, 21, 4, 32, 32), torch.zeros(8, 21, dtype=torch.bool)
    >>> grid = FrameGrid(frames, known, regular_orbit(views=8, frames=21), fps=12.0)
    >>> grid[:, [0, 20]].shape
    (8, 2, 4, 32, 32)

    Attributes:
        frames: [V, F, C, H, W] float32 in [0, 1]; C is 3 (RGB) or 4 (RGBA, straight alpha).
        known: [V, F] bool, the cells that were given as input.
        cameras: one camera per cell, or None where nobody knows them.
        fps: frames per second along F.
        provenance: where the grid comes from; plain values only.
    """

    frames: Tensor
    known: Tensor
    cameras: Cameras | None = None
    fps: float = 12.0
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.shape[2] not in (3, 4):
            raise UserError(f"a grid needs frames [V, F, 3 or 4, H, W]; got {tuple(self.frames.shape)}")
        if self.known.shape != self.frames.shape[:2]:
            raise UserError(f"known has shape {tuple(self.known.shape)}, the grid {tuple(self.frames.shape[:2])}")
        if self.cameras is not None and self.cameras.shape != tuple(self.frames.shape[:2]):
            raise UserError(f"cameras have shape {self.cameras.shape}, the grid {tuple(self.frames.shape[:2])}")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(V, F, C, H, W)."""
        V, F, C, H, W = self.frames.shape
        return V, F, C, H, W

    @property
    def orbit(self) -> Cameras:
        """The cameras.

        Raises:
            UserError: nobody knows them.
        """
        if self.cameras is None:
            raise UserError(
                "the grid has no cameras; sample it with --camera.azimuths or --camera.trajectory, or write them into "
                "grid.json (elevation, azimuth, distance, fov_y); reconstruct a scene with --preset scene"
            )
        return self.cameras

    @property
    def has_alpha(self) -> bool:
        """Whether there is a fourth channel."""
        return self.frames.shape[2] == 4

    def rgb(self, background: float = 1.0) -> Tensor:
        """[V, F, 3, H, W], composited over a grey level."""
        return composite(self.frames, background)

    def alpha(self) -> Tensor | None:
        """[V, F, 1, H, W], or None without an alpha channel."""
        return self.frames[:, :, 3:] if self.has_alpha else None

    def __getitem__(self, index: Any) -> FrameGrid:
        """A smaller grid: `grid[views]` or `grid[views, frames]`, each a slice, a list, a tensor or an int."""
        views, frames = index if isinstance(index, tuple) else (index, slice(None))
        views = torch.arange(self.shape[0])[[views] if isinstance(views, int) else views]
        frames = torch.arange(self.shape[1])[[frames] if isinstance(frames, int) else frames]
        return FrameGrid(
            self.frames[views][:, frames],
            self.known[views][:, frames],
            self.cameras[views, frames] if self.cameras else None,
            self.fps,
            dict(self.provenance),
        )

    def __repr__(self) -> str:
        V, F, C, H, W = self.shape
        cameras = "with" if self.cameras is not None else "without"
        form = "RGBA" if C == 4 else "RGB"
        return f"FrameGrid({V} views × {F} frames, {form} {W} × {H} px, {self.fps:g} fps, {cameras} cameras)"

    def _repr_html_(self) -> str:
        """The contact sheet, for notebooks."""
        data = io.BytesIO()
        self.contact_sheet(max_columns=8).save(data, "PNG")
        picture = base64.b64encode(data.getvalue()).decode()
        return f'<figure><img src="data:image/png;base64,{picture}"/><figcaption>{self!r}</figcaption></figure>'

    def contact_sheet(self, path: str | Path | None = None, max_columns: int = 12) -> Image.Image:
        """All views under each other, evenly spaced frames beside each other; also written to `path` where given."""
        cameras = self.cameras
        labels = [f"{float(angle):.0f} deg" for angle in cameras.azimuth[:, 0]] if cameras is not None else None
        columns = [f"t = {frame}" for frame in range(self.shape[1])]
        picture = sheet(self.frames, row_labels=labels, column_labels=columns, max_columns=max_columns)
        if path is not None:
            write_image(path, picture)
        return Image.fromarray(picture)

    def save_video(self, path: str | Path, view: int | None = None) -> Path:
        """A film of one view, or of all views beside each other, on white; mp4, or GIF by suffix."""
        shown = self.rgb() if view is None else self.rgb()[view : view + 1]
        frames = rearrange(shown, "v f c h w -> f h (v w) c").numpy()
        write = write_gif if Path(path).suffix.lower() == ".gif" else write_video
        return write(path, frames, self.fps)

    def row(self, view: int) -> Tensor:
        """Fixed-view video [F, C, H, W]."""
        return self.frames[view]

    def column(self, frame: int) -> Tensor:
        """Freeze-time video [V, C, H, W]."""
        return self.frames[:, frame]

    def diagonal(self, offset: int = 0) -> Tensor:
        """Time and view advance together: [max(V, F), C, H, W]; the shorter axis wraps around, starting at `offset`."""
        V, F = self.shape[:2]
        step = torch.arange(max(V, F))
        return self.frames[(step + (offset if V < F else 0)) % V, (step + (0 if V < F else offset)) % F]

    def save(self, folder: str | Path, lossless: bool = False) -> Path:
        """Write the grid folder; an older one of that name is replaced only when the new one is whole.

        A view is an H.264 video on white to look at, one of its alpha, and `cells_000.mkv` (FFV1, straight alpha) with
        every value as it was, which is what is loaded.

        Args:
            lossless: PNGs (RGBA where there is alpha) instead.
        """
        facts = (self.known, self.cameras, self.fps, self.provenance)
        return write_grid(folder, self.shape, lambda view: self.frames[view], *facts, lossless=lossless)

    @staticmethod
    def load(folder: str | Path) -> FrameGrid:
        """Read a grid folder.

        Raises:
            UserError: no grid there, a damaged record, a newer format, larger than this machine's memory, or a view
                that is missing or has other frames than grid.json says.
        """
        folder = Path(folder)
        if not (folder / "grid.json").is_file():
            other = (folder / "transforms_train.json").is_file()
            hint = "; it is in the D-NeRF form, which viewtime.dnerf.read_dnerf reads" if other else ""
            raise UserError(f"{folder} is no grid folder: it has no grid.json{hint}")
        path = folder / "grid.json"
        version = read_json(path, FormatRecord).version
        if version != FORMAT_VERSION:
            raise UserError(f"{folder} has grid format {version}; this version reads {FORMAT_VERSION}")
        record = read_json(path, GridRecord)
        if len(record.known) != record.V or any(len(row) != record.F for row in record.known):
            raise UserError(f"{path} is damaged: its known cells are no table of {record.V} views × {record.F} frames")
        check_memory(4 * record.V * record.F * record.C * record.H * record.W, f"the grid {folder}")
        cameras = read_cameras(record.cameras) if record.cameras is not None else None
        views = [_load_view(folder, view, record) for view in range(record.V)]
        return FrameGrid(
            rearrange(torch.from_numpy(np.stack(views)).float() / 255.0, "v f h w c -> v f c h w").contiguous(),
            torch.tensor(record.known, dtype=torch.bool), cameras, record.fps, record.provenance,
        )  # fmt: skip


def write_grid(
    folder: str | Path,
    shape: tuple[int, int, int, int, int],
    row: Callable[[int], Tensor],
    known: Tensor,
    cameras: Cameras | None,
    fps: float,
    provenance: dict[str, Any],
    lossless: bool = False,
) -> Path:
    """Write a grid folder row by row, so that a grid larger than memory can be written.

    Args:
        shape: (V, F, C, H, W).
        row: view -> its frames [F, C, H, W] in [0, 1]; called once per view.
        known, cameras, fps, provenance, lossless: see `FrameGrid`.
    """
    V, F, C, H, W = shape
    record = {
        "format": "viewtime-grid",
        "version": FORMAT_VERSION,
        "V": V, "F": F, "C": C, "H": H, "W": W,
        "fps": fps,
        "lossless": lossless, "exact": not lossless,
        "known": known.int().tolist(),
        "cameras": cameras.to_json() if cameras else None,
        "provenance": provenance,
    }  # fmt: skip
    with atomic_folder(folder, *GRID_FILES) as temporary:
        for view in range(V):
            _save_row(temporary, view, row(view), fps, lossless)
        (temporary / "grid.json").write_text(json.dumps(finite_json(record), indent=1))
    return Path(folder)


def _save_row(folder: Path, view: int, frames: Tensor, fps: float, lossless: bool) -> None:
    if lossless:
        (folder / f"view_{view:03d}").mkdir()
        for frame, pixels in enumerate(rearrange(frames, "f c h w -> f h w c")):
            write_image(folder / f"view_{view:03d}" / f"frame_{frame:03d}.png", pixels)
        return
    write_exact(folder / f"cells_{view:03d}.mkv", to_uint8(rearrange(frames, "f c h w -> f h w c").numpy()), fps)
    rgb = rearrange(composite(frames), "f c h w -> f h w c").numpy()
    write_video(folder / f"view_{view:03d}.mp4", rgb, fps)
    if frames.shape[1] == 4:
        alpha = rearrange(frames[:, 3:].expand(-1, 3, -1, -1), "f c h w -> f h w c").numpy()
        write_video(folder / f"alpha_{view:03d}.mp4", alpha, fps)


def _load_view(folder: Path, view: int, record: GridRecord) -> np.ndarray:
    """uint8 [F, H, W, C] of one view, cut to the size that grid.json names."""
    F, C, H, W = record.F, record.C, record.H, record.W
    if record.lossless:
        frames = np.empty((F, H, W, C), np.uint8)
        for frame in range(F):
            path = folder / f"view_{view:03d}" / f"frame_{frame:03d}.png"
            image = read_image(path)
            if image.shape != (H, W, C):
                raise UserError(f"{path}: an image of shape {image.shape}, grid.json says {(H, W, C)}")
            frames[frame] = image
        return frames
    if record.exact:
        return read_exact(folder / f"cells_{view:03d}.mkv", (F, H, W, C))
    rgb = read_video(folder / f"view_{view:03d}.mp4").frames[:, :H, :W]
    if rgb.shape != (F, H, W, 3):
        raise UserError(f"{folder}, view {view}: video of shape {rgb.shape}, grid.json says {(F, H, W, 3)}")
    if C == 3:
        return rgb
    alpha = read_video(folder / f"alpha_{view:03d}.mp4").frames[:, :H, :W, :1]
    if alpha.shape != (F, H, W, 1):
        raise UserError(f"{folder}, view {view}: alpha of shape {alpha.shape}, grid.json says {(F, H, W, 1)}")
    # The video is composited on white: straight colour = (composite - (1 - alpha)) / alpha.
    weight = alpha.astype(np.float32) / 255.0
    straight = (rgb.astype(np.float32) / 255.0 - (1.0 - weight)) / np.maximum(weight, 1e-3)
    return np.concatenate([to_uint8(np.where(weight > 1e-3, straight, 1.0)), alpha], axis=-1)
