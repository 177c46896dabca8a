"""One self-contained HTML page that plays a grid: time along the slider, views along the mouse."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.images import to_uint8

TEMPLATE = Path(__file__).with_name("grid_player.html")
LARGEST_CELL = 320  # pixels of a cell in the page
LARGEST_SHEET = 16000  # pixels of a side of the picture that holds all cells


def write_grid_page(grid: FrameGrid, path: Path) -> Path:
    """All cells on white in one picture, as WebP."""
    V, F, _, H, W = grid.shape
    scale = min(1.0, LARGEST_CELL / max(H, W), LARGEST_SHEET / (F * W), LARGEST_SHEET / (V * H))
    size = (max(1, round(W * scale)), max(1, round(H * scale)))
    cells = to_uint8(rearrange(grid.rgb(), "v f c h w -> v f h w c"))
    smaller = lambda cell: np.asarray(Image.fromarray(cell).resize(size, Image.Resampling.LANCZOS))  # noqa: E731
    small = np.stack([np.stack([smaller(cell) for cell in row]) for row in cells])
    picture = io.BytesIO()
    Image.fromarray(rearrange(small, "v f h w c -> (v h) (f w) c")).save(picture, "WEBP", quality=90)
    labels = [f"view {view}" for view in range(V)]
    if grid.cameras is not None:
        labels = [f"{float(azimuth):.0f}°" for azimuth in grid.cameras.azimuth[:, 0]]
    data = {
        "views": V, "frames": F, "fps": grid.fps, "width": size[0], "height": size[1], "labels": labels,
        "picture": "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode(),
    }  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_text(TEMPLATE.read_text().replace("/*DATA*/null", json.dumps(data)))
    return path
