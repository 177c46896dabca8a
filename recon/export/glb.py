"""Animated GLB that opens in Blender and in browsers: a morph target per frame, or joints that carry the surface."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from viewtime import __version__
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.files import atomic_path
from viewtime.recon.surface.manifold import vertex_normals
from viewtime.recon.surface.mesh import MovingMesh
from viewtime.recon.surface.skinning import Skin, skin_mesh

from .glb_file import ELEMENTS, FLOAT, UNSIGNED_INT, UNSIGNED_SHORT, VERTICES, Buffer, pack_glb
from .glb_skin import add_skin, to_gltf_axes
from .placing import placed


def linear_from_srgb(colour: np.ndarray) -> np.ndarray:
    """Displayed RGB in [0, 1] -> the linear values that glTF vertex colours hold."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def write_animated(mesh: MovingMesh, path: Path, options: MeshOptions, *, unlit: bool = True) -> Path:
    """Write the mesh with the animation, in the place and at the frame rate that the options name.

    Raises:
        UserError: options that mean no place or no time.
    """
    mesh = placed(mesh, options)
    skinned = options.animation == "skin" and len(mesh.positions) > 1
    return write_glb(mesh, path, skin_mesh(mesh, options.joints) if skinned else None, unlit=unlit)


def write_glb(mesh: MovingMesh, path: Path, skin: Skin | None = None, *, unlit: bool = True) -> Path:
    """Write the mesh with its animation; frame f is shown at f / fps seconds.

    Colours are baked light, so the material is unlit (KHR_materials_unlit), unless another program is to make its own
    of it; normals are there for those who light it anew. With a skin, whose `pose` approximates the mesh's frames, the
    file holds joints and weights; without one it holds every frame exactly, as morph targets.
    """
    F, P, _ = mesh.positions.shape
    corner = np.arange(P) if mesh.texture is None else mesh.texture.vertex
    triangles = mesh.triangles if mesh.texture is None else mesh.texture.triangles
    positions = to_gltf_axes(mesh.positions)
    normals = to_gltf_axes(vertex_normals(mesh.positions if skin is None else mesh.positions[:1], mesh.triangles))
    positions, normals = positions[:, corner], normals[:, corner]
    buffer = Buffer()
    attributes = {
        "POSITION": buffer.add(positions[0], FLOAT, "VEC3", VERTICES, bounds=True),
        "NORMAL": buffer.add(normals[0], FLOAT, "VEC3", VERTICES),
    }
    index_kind = (UNSIGNED_SHORT, np.uint16) if len(corner) < 65535 else (UNSIGNED_INT, np.uint32)
    indices = buffer.add(triangles.astype(index_kind[1]).reshape(-1), index_kind[0], "SCALAR", ELEMENTS)
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"viewtime {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "viewtime"}],
        "materials": [{
            "name": "baked",
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        }],
        "meshes": [{"name": "viewtime", "primitives": [primitive]}],
    }  # fmt: skip
    if unlit:
        document["extensionsUsed"] = ["KHR_materials_unlit"]
        document["materials"][0]["extensions"] = {"KHR_materials_unlit": {}}
    _add_colours(document, buffer, mesh)
    if F > 1:
        times = buffer.add(np.arange(F, dtype=np.float32) / np.float32(mesh.fps), FLOAT, "SCALAR", bounds=True)
        if skin is None:
            _add_morphs(document, buffer, {"POSITION": positions, "NORMAL": normals}, times)
        else:
            add_skin(document, buffer, skin, corner, times)
    document["bufferViews"], document["accessors"] = buffer.views, buffer.accessors
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, bytes(buffer.data)))
    return path


def _add_colours(document: dict[str, Any], buffer: Buffer, mesh: MovingMesh) -> None:
    """The texture, or else a colour per vertex; with both, glTF would multiply them."""
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    if mesh.texture is None:
        colour = np.concatenate([linear_from_srgb(mesh.colour), np.ones((len(mesh.colour), 1))], axis=1)
        values = (colour * 65535 + 0.5).astype(np.uint16)
        attributes["COLOR_0"] = buffer.add(values, UNSIGNED_SHORT, "VEC4", VERTICES, normalized=True)
        return
    attributes["TEXCOORD_0"] = buffer.add(mesh.texture.uv.astype(np.float32), FLOAT, "VEC2", VERTICES)
    picture = io.BytesIO()
    Image.fromarray(mesh.texture.picture).save(picture, "PNG", optimize=True)
    document["images"] = [
        {"name": "baked", "mimeType": "image/png", "bufferView": buffer.add_bytes(picture.getvalue())}
    ]
    clamped = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
    document["samplers"], document["textures"] = [clamped], [{"source": 0, "sampler": 0}]
    document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}


def _add_morphs(document: dict[str, Any], buffer: Buffer, moved: dict[str, np.ndarray], times: int) -> None:
    """A target per frame, of the attributes [F, C, 3], and one-hot weights over time."""
    F = len(moved["POSITION"])
    document["meshes"][0]["primitives"][0]["targets"] = [
        {
            name: buffer.add(values[f] - values[0], FLOAT, "VEC3", VERTICES, bounds=name == "POSITION")
            for name, values in moved.items()
        }
        for f in range(1, F)
    ]
    document["meshes"][0]["weights"] = [0.0] * (F - 1)
    document["meshes"][0]["extras"] = {"targetNames": [f"frame_{f:03d}" for f in range(1, F)]}
    weights = buffer.add(np.eye(F, dtype=np.float32)[:, 1:].reshape(-1), FLOAT, "SCALAR")
    document["animations"] = [{
        "name": "motion", "samplers": [{"input": times, "output": weights, "interpolation": "LINEAR"}],
        "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
    }]  # fmt: skip
