"""Animated GLB: one mesh, a morph target per frame, one-hot weights over time; opens in Blender and in browsers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from viewtime import __version__
from viewtime.files import atomic_path

from .mesh import MovingMesh

FLOAT, UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5121, 5123, 5125
VERTICES, ELEMENTS = 34962, 34963


def to_gltf_axes(points: np.ndarray) -> np.ndarray:
    """World (Z up, front at -Y) -> glTF (Y up, front at +Z), [..., 3]."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1).astype(np.float32)


class _Buffer:
    """The binary chunk with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self,
        array: np.ndarray,
        component: int,
        kind: str,
        target: int | None = None,
        bounds: bool = False,
        **extra: Any,
    ) -> int:
        """Append an array; returns its accessor."""
        self.data += b"\0" * (-len(self.data) % 4)
        raw = np.ascontiguousarray(array).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        self.data += raw
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1, "componentType": component, "count": len(array), "type": kind, **extra,
        }  # fmt: skip
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor["min"], accessor["max"] = flat.min(0).tolist(), flat.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def linear_from_srgb(colour: np.ndarray) -> np.ndarray:
    """Displayed RGB in [0, 1] -> the linear values that glTF vertex colours hold."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def write_glb(mesh: MovingMesh, path: Path) -> Path:
    """Write the mesh with its animation; frame f is shown at f / fps seconds.

    Colours are baked light, so the material is unlit (KHR_materials_unlit).
    """
    F, P, _ = mesh.positions.shape
    positions = to_gltf_axes(mesh.positions)
    buffer = _Buffer()
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
        primitive["targets"] = [
            {"POSITION": buffer.add(positions[f] - positions[0], FLOAT, "VEC3", VERTICES, bounds=True)}
            for f in range(1, F)
        ]
        document["meshes"][0]["weights"] = [0.0] * (F - 1)
        document["meshes"][0]["extras"] = {"targetNames": [f"frame_{f:03d}" for f in range(1, F)]}
        times = buffer.add(np.arange(F, dtype=np.float32) / np.float32(mesh.fps), FLOAT, "SCALAR", bounds=True)
        weights = buffer.add(np.eye(F, dtype=np.float32)[:, 1:].reshape(-1), FLOAT, "SCALAR")
        document["animations"] = [{
            "name": "motion", "samplers": [{"input": times, "output": weights, "interpolation": "LINEAR"}],
            "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
        }]  # fmt: skip
    document["bufferViews"], document["accessors"] = buffer.views, buffer.accessors
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, bytes(buffer.data)))
    return path


def pack_glb(document: dict[str, Any], binary: bytes) -> bytes:
    """The GLB container: header, JSON chunk, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
