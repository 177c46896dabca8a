"""GLB files made for the tests: one octahedron with whatever animation, skin or morph target a test needs."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
FACES = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], np.uint16)
COMPONENTS = {np.dtype(np.float32): 5126, np.dtype(np.uint16): 5123, np.dtype(np.uint8): 5121}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Builder:
    """Collects arrays into one binary chunk; `document` is edited freely before `write`."""

    def __init__(self) -> None:
        self.binary = b""
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "bufferViews": [],
            "accessors": [],
            "materials": [],
            "meshes": [],
            "nodes": [],
            "scenes": [{"nodes": [0]}],
            "scene": 0,
        }

    def add(self, array: np.ndarray, **more: Any) -> int:
        """Append an accessor [N, C] and return its index."""
        array = np.ascontiguousarray(array)
        views, accessors = self.document["bufferViews"], self.document["accessors"]
        views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes})
        self.binary += array.tobytes() + b"\0" * (-array.nbytes % 4)
        kind, component = KINDS[array.shape[1]], COMPONENTS[array.dtype]
        entry = {"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind}
        accessors.append(entry | more)
        return len(accessors) - 1

    def mesh(self, points: np.ndarray, faces: np.ndarray, material: dict[str, Any] | None = None) -> int:
        """Append a mesh of one primitive and return its index."""
        self.document["materials"].append(material or {})
        primitive = {
            "attributes": {"POSITION": self.add(points.astype(np.float32))},
            "indices": self.add(faces.reshape(-1, 1).astype(np.uint16)),
            "material": len(self.document["materials"]) - 1,
        }
        self.document["meshes"].append({"primitives": [primitive]})
        return len(self.document["meshes"]) - 1

    def animate(
        self, name: str, node: int, path: str, times: Any, values: np.ndarray, interpolation: str = "LINEAR"
    ) -> None:
        """Append a clip with one channel."""
        sampler = {
            "input": self.add(np.asarray(times, np.float32).reshape(-1, 1)),
            "output": self.add(np.asarray(values, np.float32)),
            "interpolation": interpolation,
        }
        channel = {"sampler": 0, "target": {"node": node, "path": path}}
        self.document.setdefault("animations", []).append({"name": name, "channels": [channel], "samplers": [sampler]})

    def write(self, path: Path) -> Path:
        self.document["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.document).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path


def octahedron(
    *,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    radius: float = 0.1,
    colour: tuple[float, float, float] = (0.8, 0.2, 0.1),
    unlit: bool = False,
) -> Builder:
    """One octahedron, in glTF's axes (Y up), on node 0."""
    builder = Builder()
    material: dict[str, Any] = {"pbrMetallicRoughness": {"baseColorFactor": [*colour, 1.0]}}
    if unlit:
        material["extensions"] = {"KHR_materials_unlit": {}}
    builder.mesh(OCTAHEDRON * radius + np.array(centre, np.float32), FACES, material)
    builder.document["nodes"].append({"mesh": 0, "name": "octahedron"})
    return builder


def moving(path: Path, *, shift: float = 1.0, seconds: float = 1.0, clips: tuple[str, ...] = ("Move",)) -> Path:
    """An octahedron that slides along x."""
    builder = octahedron(radius=0.4)
    for number, clip in enumerate(clips):
        builder.animate(clip, 0, "translation", [0, seconds], np.array([[0, 0, 0], [shift + number, 0.2, 0]]))
    return builder.write(path)
