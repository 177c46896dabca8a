"""The exported mesh beside the asset, so that later exports show the refined and painted surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.surface.mesh import MovingMesh
from viewtime.weights import open_weights, read_tensors

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


def remove_mesh(folder: Path) -> None:
    """Delete mesh.safetensors if there is one."""
    (folder / NAME).unlink(missing_ok=True)


def load_mesh(folder: Path) -> MovingMesh | None:
    """The mesh of an asset folder; None where it was fitted without one.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    opened = open_weights(path)
    tensors = {name: tensor.numpy() for name, tensor in read_tensors(opened)}
    try:
        positions, triangles, colour = (tensors[name] for name in ("positions", "triangles", "colour"))
        fps = float(opened.metadata["fps"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}; reconstruct the asset again") from error
    vertices = positions.shape[1] if positions.ndim == 3 else 0
    fits = (
        positions.ndim == 3 and positions.shape[2] == 3 and colour.shape == (vertices, 3) and vertices
        and triangles.ndim == 2 and triangles.shape[1] == 3 and triangles.dtype.kind in "iu"
        and triangles.size and triangles.min() >= 0 and triangles.max() < vertices
        and np.isfinite(positions).all() and np.isfinite(colour).all() and 0 < fps < 1e6
    )  # fmt: skip
    if not fits:
        raise UserError(f"{path} is damaged: its tensors make no mesh; reconstruct the asset again")
    return MovingMesh(positions.astype(np.float32), triangles.astype(np.int64), colour.astype(np.float32), fps)
