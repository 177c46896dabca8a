"""One self-contained HTML page that plays a mesh: no server, no network, opens from disk."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from viewtime.files import atomic_path
from viewtime.recon.surface.mesh import MovingMesh

TEMPLATE = Path(__file__).with_name("player.html")


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def write_page(mesh: MovingMesh, path: Path) -> Path:
    """Positions are stored as 16-bit integers over the clip's bounding cube (error below 2e-5 of its side)."""
    low, high = float(mesh.positions.min()), float(mesh.positions.max())
    quantised = np.round((mesh.positions - low) / max(high - low, 1e-9) * 65535).astype("<u2")
    data = {
        "frames": mesh.positions.shape[0], "vertices": mesh.positions.shape[1], "fps": mesh.fps,
        "low": low, "high": high,
        "positions": _text(quantised), "colours": _text((mesh.colour * 255 + 0.5).astype(np.uint8)),
        "triangles": _text(mesh.triangles.astype("<u4")),
    }  # fmt: skip
    page = TEMPLATE.read_text().replace("/*DATA*/null", json.dumps(data))
    with atomic_path(path) as temporary:
        temporary.write_text(page)
    return path
