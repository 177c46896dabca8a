"""The exported mesh beside the asset, so that later exports show the refined and painted surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.surface.mesh import MovingMesh

NAME = "mesh.safetensors"


def save_mesh(mesh: MovingMesh, folder: Path) -> Path:
    """Write mesh.safetensors into an asset folder."""
    tensors = {
        "positions": np.ascontiguousarray(mesh.positions, np.float32),
        "triangles": np.ascontiguousarray(mesh.triangles, np.int32),
        "colour": np.ascontiguousarray(mesh.colour, np.float32),
    }
    with atomic_path(folder / NAME) as path:
        save_file(tensors, path, {"fps": repr(float(mesh.fps))})
    return folder / NAME


def load_mesh(folder: Path) -> MovingMesh | None:
    """The mesh of an asset folder; None where it was fitted without one.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in ("positions", "triangles", "colour")}
            fps = float(file.metadata()["fps"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}; reconstruct the asset again") from error
    return MovingMesh(arrays["positions"], arrays["triangles"].astype(np.int64), arrays["colour"], fps)
