"""A posed asset for Blender: its looks as a still GLB, its vertices at every moment as arrays.

Cycles shows what our reader posed. Nothing is left to how another importer names clips, takes splines or reads
skeletons; it is asked for materials alone.
"""

from __future__ import annotations

import copy
import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .gltf_file import AssetError, GltfFile
from .pose import Posed
from .textures import ImageFiles

MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
COMPONENTS = {"float32": 5126, "uint32": 5125}


@dataclass(frozen=True)
class PosedFiles:
    """GLB with a node a material, named as the arrays `NAME_points`, `NAME_normals` [F, N, 3] of the .npz are."""

    glb: Path
    poses: Path


def write_posed(posed: Posed, folder: Path) -> PosedFiles:
    """Write both files; world axes are Blender's in the .npz and glTF's in the GLB.

    Raises:
        AssetError: the images together are too large, or one cannot be read any more.
    """
    file = GltfFile(posed.scene.path)
    document: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "meshes": [], "nodes": []}
    chunks = _Chunks(document)
    _materials(file, document, chunks)
    poses: dict[str, np.ndarray] = {}
    for material, members in _by_material(posed).items():
        name = f"material_{material:05d}"
        points, normals, mesh = _mesh(posed, members, chunks)
        mesh["primitives"][0]["material"] = material
        poses[f"{name}_points"], poses[f"{name}_normals"] = points, normals
        document["nodes"].append({"name": name, "mesh": len(document["meshes"])})
        document["meshes"].append(mesh)
    document["scenes"] = [{"nodes": list(range(len(document["nodes"])))}]
    files = PosedFiles(folder / "looks.glb", folder / "poses.npz")
    chunks.write(files.glb)
    np.savez(files.poses, **poses)
    return files


class _Chunks:
    """The binary half of the GLB, filled through buffer views and accessors."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.binary = bytearray()
        document["bufferViews"], document["accessors"] = [], []

    def view(self, data: bytes) -> int:
        self.document["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)})
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(self.document["bufferViews"]) - 1

    def accessor(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array)
        entry: dict[str, Any] = {
            "bufferView": self.view(array.tobytes()),
            "componentType": COMPONENTS[array.dtype.name],
            "count": len(array),
            "type": KINDS[array.shape[1]],
        }
        if array.shape[1] == 3:
            entry |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self.document["accessors"].append(entry)
        return len(self.document["accessors"]) - 1

    def write(self, path: Path) -> None:
        self.document["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.document).encode()
        text += b" " * (-len(text) % 4)
        head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(self.binary), len(text), 0x4E4F534A)
        path.write_bytes(head + text + struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary)


def _by_material(posed: Posed) -> dict[int, list[tuple[int, slice]]]:
    """Material -> (place in `posed.parts`, its range of vertices) of the parts that show it."""
    found: dict[int, list[tuple[int, slice]]] = {}
    first = 0
    for place, index in enumerate(posed.parts):
        part = posed.scene.parts[index]
        found.setdefault(part.material, []).append((place, slice(first, first + len(part.positions))))
        first += len(part.positions)
    return found


def _mesh(
    posed: Posed, members: list[tuple[int, slice]], chunks: _Chunks
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Points and normals [F, N, 3] of the parts' vertices that some triangle uses, and the mesh of frame 0."""
    parts = [posed.scene.parts[posed.parts[place]] for place, _ in members]
    offsets = np.cumsum([0, *(len(part.positions) for part in parts)])
    triangles = np.concatenate([posed.outward(place) + offset for (place, _), offset in zip(members, offsets)])
    used, indices = np.unique(triangles, return_inverse=True)

    def gather(arrays: list[np.ndarray], axis: int) -> np.ndarray:
        return np.ascontiguousarray(np.take(np.concatenate(arrays, axis=axis), used, axis=axis), np.float32)

    points = gather([posed.positions[:, span] for _, span in members], 1)
    normals = gather([posed.normals[:, span] for _, span in members], 1)
    attributes = {
        "POSITION": chunks.accessor(_gltf_axes(points[0])),
        "NORMAL": chunks.accessor(_gltf_axes(normals[0])),
    }
    for number in range(max(len(part.uv_sets) for part in parts)):
        empty = [np.zeros((len(part.positions), 2), np.float32) for part in parts]
        sets = [part.uv_sets[number] if number < len(part.uv_sets) else zeros for part, zeros in zip(parts, empty)]
        attributes[f"TEXCOORD_{number}"] = chunks.accessor(gather(sets, 0))
    colours = gather([part.colours for part in parts], 0)
    if (colours != 1).any():
        attributes["COLOR_0"] = chunks.accessor(colours)
    corners = chunks.accessor(indices.reshape(-1, 1).astype(np.uint32))
    return points, normals, {"primitives": [{"attributes": attributes, "indices": corners}]}


def _gltf_axes(vectors: np.ndarray) -> np.ndarray:
    """Blender's (x, y, z) is glTF's (x, z, -y)."""
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1)


def _materials(file: GltfFile, document: dict[str, Any], chunks: _Chunks) -> None:
    """The file's materials with the images that they show, and glTF's default material last."""
    images = ImageFiles(file)
    document["samplers"] = copy.deepcopy(file.items("samplers"))
    document["images"], document["textures"] = [], []
    made: dict[int, int] = {}
    placed: dict[int, int] = {}

    def texture(index: Any) -> int:
        source = images.source(index)
        if source not in made:
            data = images.data(source)
            images.measure(data)
            kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
            if kind is None:
                data, kind = _as_png(data), "image/png"
            made[source] = len(document["images"])
            document["images"].append({"bufferView": chunks.view(data), "mimeType": kind})
        if index not in placed:
            placed[index] = len(document["textures"])
            entry = {"source": made[source]}
            sampler = file.item("textures", index).get("sampler")
            document["textures"].append(entry if sampler is None else entry | {"sampler": sampler})
        return placed[index]

    document["materials"] = [_with_textures(entry, texture) for entry in file.items("materials")]
    document["materials"].append({"name": "default"})
    document["extensionsUsed"] = sorted({name for entry in document["materials"] for name in _extensions(entry)})


def _as_png(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        out = io.BytesIO()
        image.convert("RGBA").save(out, "PNG")
    return out.getvalue()


def _with_textures(value: Any, texture: Any) -> Any:
    """A copy whose texture references point at the new list; those that have no readable image are left out.

    Base colour and emission were read already and are never among them.
    """
    if isinstance(value, list):
        return [_with_textures(item, texture) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if key.endswith("Texture") and isinstance(item, dict) and "index" in item:
            try:
                result[key] = _with_textures(item, texture) | {"index": texture(item["index"])}
            except AssetError as error:
                if error.reason != "texture":
                    raise
        else:
            result[key] = _with_textures(item, texture)
    return result


def _extensions(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for item in value for name in _extensions(item)}
    if not isinstance(value, dict):
        return set()
    return set(value.get("extensions", {})) | {name for item in value.values() for name in _extensions(item)}
