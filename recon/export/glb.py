"""Animated GLB that opens in Blender and in browsers: a morph target per frame, or joints that carry the surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from viewtime import __version__
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.files import atomic_path
from viewtime.recon.surface.mesh import MovingMesh
from viewtime.recon.surface.skinning import Skin, quaternions, skin_mesh

from .glb_file import ELEMENTS, FLOAT, UNSIGNED_BYTE, UNSIGNED_INT, UNSIGNED_SHORT, VERTICES, Buffer, pack_glb


def to_gltf_axes(points: np.ndarray) -> np.ndarray:
    """World (Z up, front at -Y) -> glTF (Y up, front at +Z), [..., 3]."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1).astype(np.float32)


def linear_from_srgb(colour: np.ndarray) -> np.ndarray:
    """Displayed RGB in [0, 1] -> the linear values that glTF vertex colours hold."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def write_animated(mesh: MovingMesh, path: Path, options: MeshOptions) -> Path:
    """Write the mesh with the animation that the options name."""
    skinned = options.animation == "skin" and len(mesh.positions) > 1
    return write_glb(mesh, path, skin_mesh(mesh, options.joints) if skinned else None)


def write_glb(mesh: MovingMesh, path: Path, skin: Skin | None = None) -> Path:
    """Write the mesh with its animation; frame f is shown at f / fps seconds.

    Colours are baked light, so the material is unlit (KHR_materials_unlit). With a skin, whose `pose` approximates
    the mesh's frames, the file holds joints and weights; without one it holds every frame exactly, as morph targets.
    """
    F, P, _ = mesh.positions.shape
    positions = to_gltf_axes(mesh.positions)
    buffer = Buffer()
    colour = np.concatenate([linear_from_srgb(mesh.colour), np.ones((P, 1))], axis=1)
    index_kind = (UNSIGNED_SHORT, np.uint16) if P < 65535 else (UNSIGNED_INT, np.uint32)
    attributes = {
        "POSITION": buffer.add(positions[0], FLOAT, "VEC3", VERTICES, bounds=True),
        "COLOR_0": buffer.add(
            (colour * 65535 + 0.5).astype(np.uint16), UNSIGNED_SHORT, "VEC4", VERTICES, normalized=True
        ),
    }
    indices = buffer.add(mesh.triangles.astype(index_kind[1]).reshape(-1), index_kind[0], "SCALAR", ELEMENTS)
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"viewtime {__version__}"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "viewtime"}],
        "materials": [{
            "name": "baked", "extensions": {"KHR_materials_unlit": {}},
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        }],
        "meshes": [{"name": "viewtime", "primitives": [primitive]}],
    }  # fmt: skip
    if F > 1:
        times = buffer.add(np.arange(F, dtype=np.float32) / np.float32(mesh.fps), FLOAT, "SCALAR", bounds=True)
        if skin is None:
            _add_morphs(document, buffer, positions, times)
        else:
            _add_skin(document, buffer, skin, times)
    document["bufferViews"], document["accessors"] = buffer.views, buffer.accessors
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, bytes(buffer.data)))
    return path


def _add_morphs(document: dict[str, Any], buffer: Buffer, positions: np.ndarray, times: int) -> None:
    """A target per frame and one-hot weights over time."""
    F = len(positions)
    document["meshes"][0]["primitives"][0]["targets"] = [
        {"POSITION": buffer.add(positions[f] - positions[0], FLOAT, "VEC3", VERTICES, bounds=True)} for f in range(1, F)
    ]
    document["meshes"][0]["weights"] = [0.0] * (F - 1)
    document["meshes"][0]["extras"] = {"targetNames": [f"frame_{f:03d}" for f in range(1, F)]}
    weights = buffer.add(np.eye(F, dtype=np.float32)[:, 1:].reshape(-1), FLOAT, "SCALAR")
    document["animations"] = [{
        "name": "motion", "samplers": [{"input": times, "output": weights, "interpolation": "LINEAR"}],
        "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
    }]  # fmt: skip


def _add_skin(document: dict[str, Any], buffer: Buffer, skin: Skin, times: int) -> None:
    """Joint nodes under one root, their paths over time, and four weighted joints per vertex."""
    J = len(skin.centres)
    index, weight = np.zeros((len(skin.index), 4)), np.zeros((len(skin.index), 4))
    index[:, : skin.index.shape[1]] = skin.index
    weight[:, : skin.weight.shape[1]] = skin.weight
    index[weight == 0] = 0
    kind, limit = (UNSIGNED_BYTE, np.uint8) if J <= 256 else (UNSIGNED_SHORT, np.uint16)
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = buffer.add(index.astype(limit), kind, "VEC4", VERTICES)
    attributes["WEIGHTS_0"] = buffer.add(weight.astype(np.float32), FLOAT, "VEC4", VERTICES)
    bind = np.tile(np.eye(4, dtype=np.float32), (J, 1, 1))
    bind[:, 3, :3] = -to_gltf_axes(skin.centres)  # column-major
    places, turns = to_gltf_axes(skin.places), quaternions(skin.rotations)
    turns = np.concatenate([to_gltf_axes(turns[..., :3]), turns[..., 3:]], axis=-1).astype(np.float32)
    document["nodes"][0]["skin"] = 0
    document["nodes"] += [{"name": "joints", "children": list(range(2, 2 + J))}]
    document["nodes"] += [
        {"name": f"joint_{j:03d}", "translation": places[0, j].tolist(), "rotation": turns[0, j].tolist()}
        for j in range(J)
    ]
    document["scenes"][0]["nodes"] = [0, 1]
    document["skins"] = [{
        "joints": list(range(2, 2 + J)), "skeleton": 1,
        "inverseBindMatrices": buffer.add(bind.reshape(J, 16), FLOAT, "MAT4"),
    }]  # fmt: skip
    samplers, channels = [], []
    for joint in range(J):
        for name, values, shape in (("translation", places, "VEC3"), ("rotation", turns, "VEC4")):
            channels.append({"sampler": len(samplers), "target": {"node": 2 + joint, "path": name}})
            output = buffer.add(values[:, joint], FLOAT, shape)
            samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
    document["animations"] = [{"name": "motion", "samplers": samplers, "channels": channels}]
