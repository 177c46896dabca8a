"""The exported mesh beside the asset, so that later exports show the refined and painted surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.surface.mesh import MovingMesh, Texture
from viewtime.weights import open_weights, read_tensors

NAME = "mesh.safetensors"


def save_mesh(mesh: MovingMesh, folder: Path) -> Path:
    """Write mesh.safetensors into an asset folder."""
    tensors = {
        "positions": np.ascontiguousarray(mesh.positions, np.float32),
        "triangles": np.ascontiguousarray(mesh.triangles, np.int32),
        "colour": np.ascontiguousarray(mesh.colour, np.float32),
    }
    if mesh.texture is not None:
        tensors |= {
            "texture.vertex": np.ascontiguousarray(mesh.texture.vertex, np.int32),
            "texture.triangles": np.ascontiguousarray(mesh.texture.triangles, np.int32),
            "texture.uv": np.ascontiguousarray(mesh.texture.uv, np.float32),
            "texture.picture": np.ascontiguousarray(mesh.texture.picture),
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
    texture = _texture(tensors, triangles, vertices, path)
    return MovingMesh(positions.astype(np.float32), triangles.astype(np.int64), colour.astype(np.float32), fps, texture)


def _texture(tensors: dict[str, np.ndarray], triangles: np.ndarray, vertices: int, path: Path) -> Texture | None:
    """The texture of a mesh file, if it holds one.

    Raises:
        UserError: it does not belong to the mesh.
    """
    if "texture.picture" not in tensors:
        return None
    try:
        vertex, corners, uv, picture = (tensors[f"texture.{name}"] for name in ("vertex", "triangles", "uv", "picture"))
    except KeyError as error:
        raise UserError(f"{path} is damaged: {error} is missing; reconstruct the asset again") from error
    fits = (
        vertex.ndim == 1 and vertex.dtype.kind in "iu" and vertex.size and 0 <= vertex.min() <= vertex.max() < vertices
        and corners.shape == triangles.shape and corners.dtype.kind in "iu"
        and 0 <= corners.min() <= corners.max() < len(vertex) and (vertex[corners] == triangles).all()
        and uv.shape == (len(vertex), 2) and np.isfinite(uv).all() and 0 <= uv.min() <= uv.max() <= 1
        and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        and picture.shape[0] == picture.shape[1] and picture.size
    )  # fmt: skip
    if not fits:
        raise UserError(f"{path} is damaged: its texture does not belong to its mesh; reconstruct the asset again")
    return Texture(vertex.astype(np.int64), corners.astype(np.int64), uv.astype(np.float32), picture)
