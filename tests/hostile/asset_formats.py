"""3D files, and what curation and rendering keep of them, as `tests.hostile.formats` has the others."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np

from tests.render.small_gltf import Builder, octahedron
from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.configs.schema.render import RenderConfig
from viewtime.data.curation.candidates import folder_candidates
from viewtime.data.curation.command import _earlier_rows, _mark
from viewtime.data.curation.decide import Duplicates
from viewtime.data.live.asset_list import list_assets
from viewtime.render_objaverse.assets import find_assets
from viewtime.render_objaverse.command import _same_settings
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene


def animated() -> Builder:
    """An octahedron that slides, turns, and has a morph target, a skin of two joints and a texture."""
    builder = octahedron(radius=0.4)
    document, points = builder.document, np.zeros((6, 3), np.float32) + 0.1
    primitive = document["meshes"][0]["primitives"][0]
    primitive["targets"] = [{"POSITION": builder.add(points)}]
    primitive["attributes"]["JOINTS_0"] = builder.add(np.zeros((6, 4), np.uint8))
    primitive["attributes"]["WEIGHTS_0"] = builder.add(np.tile(np.float32([1, 0, 0, 0]), (6, 1)))
    primitive["attributes"]["TEXCOORD_0"] = builder.add(np.zeros((6, 2), np.float32))
    document["nodes"] += [{"name": "joint", "children": [2]}, {"name": "tip", "translation": [0, 0.5, 0]}]
    document["skins"] = [
        {
            "joints": [1, 2],
            "inverseBindMatrices": builder.add(np.tile(np.eye(4, dtype=np.float32).reshape(1, 16), (2, 1))),
        }
    ]
    document["accessors"][-1]["type"] = "MAT4"
    document["nodes"][0]["skin"] = 0
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    document["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(png).decode()}]
    document["textures"] = [{"source": 0}]
    document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    for path, node, values in (
        ("translation", 0, [[0, 0, 0], [1, 0.2, 0]]), ("rotation", 1, [[0, 0, 0, 1], [0, 1, 0, 0]]),
        ("weights", 0, [[0], [1]]),
    ):  # fmt: skip
        builder.animate("Move", node, path, [0, 1], np.array(values))
    return builder


def as_gltf(folder: Path) -> None:
    """JSON with its buffer beside it."""
    builder = animated()
    builder.document["buffers"] = [{"byteLength": len(builder.binary), "uri": "a.bin"}]
    (folder / "a.bin").write_bytes(bytes(builder.binary))
    (folder / "a.gltf").write_text(json.dumps(builder.document))


def as_draco(folder: Path) -> None:
    """One compressed octahedron; its compressed bytes are a file of their own."""
    builder = octahedron(radius=0.4)
    document = builder.document
    points, faces = np.random.default_rng(0).random((30, 3)).astype(np.float32), np.arange(30).reshape(10, 3)
    packed = DracoPy.encode(points, faces.astype(np.uint32))
    document["accessors"] = [
        {"componentType": 5126, "count": 30, "type": "VEC3"}, {"componentType": 5125, "count": 30, "type": "SCALAR"}
    ]  # fmt: skip
    extension = {"bufferView": 0, "attributes": {"POSITION": 0}}
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "extensions": {"KHR_draco_mesh_compression": extension}}
    document["meshes"] = [{"primitives": [primitive]}]
    document.pop("materials")
    document["bufferViews"] = [{"buffer": 0, "byteOffset": 0, "byteLength": len(packed)}]
    document["buffers"] = [{"byteLength": len(packed), "uri": "a.bin"}]
    document["extensionsUsed"] = document["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    (folder / "a.bin").write_bytes(packed)
    (folder / "a.gltf").write_text(json.dumps(document))


def load(path: Path) -> None:
    scene = load_scene(path)
    for clip in (None, *scene.clips):
        pose_scene(scene, clip, np.linspace(0, 1, 3))


LIMITS = CurationLimits()


def curation(folder: Path) -> CurateConfig:
    return CurateConfig(str(folder / "in"), str(folder), licence="CC0", limits=LIMITS)


def decided(folder: Path) -> None:
    """A manifest of two rows with its settings, as a killed curation leaves it."""
    clip = {"name": "Move", "frames": 25, "content": "c", "decision": "keep", "reason": "", "error": None}
    row: dict[str, Any] = {
        "id": "a", "source": "folder", "path": "in/a.glb", "licence": "CC0", "author": "", "decision": "keep",
        "stage": "", "reason": "", "detail": "", "sha256": "s", "content": "t", "triangles": 8, "clips": [clip],
    }  # fmt: skip
    rejected = {"id": "b", "licence": None, "decision": "reject", "stage": "licence", "reason": "unknown", "clips": []}
    (folder / "manifest.jsonl").write_text(
        "".join(json.dumps(each) + "\n" for each in (row, row | {"id": "c"}, rejected))
    )
    # The mark is of the folder that is read, which has another name than the one that is written.
    (folder / "settings.json").write_text(json.dumps(_mark(curation(folder))))


def go_on(folder: Path) -> None:
    duplicates = Duplicates()
    config = curation(folder.parent / "whole")
    for row in _earlier_rows(config, folder / "manifest.jsonl").values():
        duplicates.apply(row)


def by_line(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """The rows are damaged as one JSON list; each becomes a line."""

    def read_lines(folder: Path) -> None:
        data = (folder / "rows.json").read_bytes()
        try:
            rows = json.loads(data)
            lines = [json.dumps(row).encode() for row in rows] if isinstance(rows, list) else [data]
        except (ValueError, RecursionError):
            lines = [data]
        (folder / "manifest.jsonl").write_bytes(b"\n".join([*lines, b'{"id": "z", "decision": "cut']))
        read(folder)

    return read_lines


def as_rows(folder: Path) -> None:
    decided(folder)
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    (folder / "rows.json").write_text(json.dumps(rows))


def licences(folder: Path) -> None:
    animated().write(folder / "a.glb")
    (folder / "licences.json").write_text(json.dumps([{"file": "a.glb", "licence": "CC0", "author": "me"}]))


def settings(folder: Path) -> None:
    (folder / "grids" / "a").mkdir(parents=True)
    (folder / "grids" / "a" / "grid.json").write_text("{}")
    _same_settings(folder, RenderConfig("x", str(folder)))


ASSET_FORMATS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any], str]] = {
    "GLB": ("a.glb", lambda f: animated().write(f / "a.glb"), lambda f: load(f / "a.glb"), ""),
    "glTF": ("a.gltf", as_gltf, lambda f: load(f / "a.gltf"), "json"),
    "glTF's buffer": ("a.bin", as_gltf, lambda f: load(f / "a.gltf"), ""),
    "Draco": ("a.bin", as_draco, lambda f: load(f / "a.gltf"), ""),
    "manifest to render": ("rows.json", as_rows, by_line(lambda f: find_assets(f, "gl")), "json"),
    "manifest to train on": ("rows.json", as_rows, by_line(lambda f: list_assets(str(f))), "json"),
    "manifest to go on": ("rows.json", as_rows, by_line(go_on), "json"),
    "curation's settings": ("settings.json", decided, go_on, "json"),
    "render's settings": (
        "settings.json", settings, lambda f: _same_settings(f, RenderConfig("x", str(f.parent / "whole"))), "json"
    ),
    "licences": ("licences.json", licences, lambda f: list(folder_candidates(f)), "json"),
}  # fmt: skip
