"""Small GLB files for tests: a moving box, whole or damaged in one chosen way."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * [0.5, 0.3, 0.2]
FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]], np.uint16
)  # fmt: skip


def box_document(
    path: Path,
    *,
    seconds: float = 2.0,
    shift: float = 1.0,
    turn: float = 90.0,
    colour: tuple[float, float, float] = (0.8, 0.2, 0.1),
    scale: float = 1.0,
    clips: tuple[str, ...] = ("Move",),
) -> tuple[dict[str, Any], bytes]:
    """glTF document and binary chunk of a box that slides by `shift` and turns by `turn` degrees."""
    half = np.radians(turn) / 2
    blobs = [
        (CORNERS * scale).astype(np.float32),
        FACES.reshape(-1, 1),
        np.array([[0.0], [seconds]], np.float32),
        np.array([[0, 0, 0], [shift, 0, 0]], np.float32),
        np.array([[0, 0, 0, 1], [0, np.sin(half), 0, np.cos(half)]], np.float32),
    ]
    kinds = [("VEC3", 5126), ("SCALAR", 5123), ("SCALAR", 5126), ("VEC3", 5126), ("VEC4", 5126)]
    views, accessors, binary = [], [], b""
    for number, (blob, (kind, component)) in enumerate(zip(blobs, kinds)):
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": blob.nbytes})
        accessors.append({"bufferView": number, "componentType": component, "count": len(blob), "type": kind})
        binary += blob.tobytes() + b"\0" * (-blob.nbytes % 4)
    channels = [
        {"sampler": 0, "target": {"node": 0, "path": "translation"}},
        {"sampler": 1, "target": {"node": 0, "path": "rotation"}},
    ]
    samplers = [{"input": 2, "output": 3}, {"input": 2, "output": 4}]
    document = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": views,
        "accessors": accessors,
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [*colour, 1.0]}}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}],
        "nodes": [{"mesh": 0, "name": "box"}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        "animations": [{"name": name, "channels": channels, "samplers": samplers} for name in clips],
    }
    return document, binary


def write_glb(path: Path, document: dict[str, Any], binary: bytes) -> Path:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def write_box(path: Path, **options: Any) -> Path:
    """A whole, moving box."""
    return write_glb(path, *box_document(path, **options))


def write_bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """One file for each kind of damage; name -> (stage, reason) that curation must find."""
    whole = write_box(folder / "whole.glb").read_bytes()
    (folder / "truncated.glb").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.glb").write_bytes(b"")
    (folder / "text.glb").write_text("version https://git-lfs.github.com/spec/v1\n")

    document, binary = box_document(folder)
    nan = np.frombuffer(binary, np.float32, count=24).copy()
    nan[4] = np.nan
    write_glb(folder / "nan_positions.glb", document, nan.tobytes() + binary[nan.nbytes :])

    document, binary = box_document(folder)
    document["accessors"][0]["count"] = 2**30
    write_glb(folder / "huge_accessor.glb", document, binary)

    # No bufferView: the accessor is all zeros by the format, so its size is bounded by nothing in the file.
    document, binary = box_document(folder)
    document["accessors"][0] = {"componentType": 5126, "count": 2**30, "type": "VEC3"}
    write_glb(folder / "huge_empty_accessor.glb", document, binary)

    write_box(folder / "key_time.glb", seconds=1e7)

    document, binary = box_document(folder)
    document["nodes"] = [{"mesh": 0, "children": [1]}, {"children": [2]}, {"children": [1]}]
    write_glb(folder / "node_cycle.glb", document, binary)

    document, binary = box_document(folder)
    del document["animations"]
    write_glb(folder / "static.glb", document, binary)
    write_box(folder / "short.glb", seconds=0.2)
    write_box(folder / "still.glb", shift=0.001, turn=0.0)
    (folder / "copy_of_whole.glb").write_bytes(whole)
    write_box(folder / "whole_renamed_clip.glb", clips=("Another",))
    return {
        "truncated": ("readable", "truncated"),
        "empty": ("readable", "empty"),
        "text": ("readable", "bad_json"),
        "nan_positions": ("readable", "non_finite"),
        "huge_accessor": ("readable", "accessor"),
        "huge_empty_accessor": ("readable", "accessor"),
        "key_time": ("readable", "key_times"),
        "node_cycle": ("readable", "node_cycle"),
        "static": ("frames", "no_animation"),
        "short": ("frames", "few_frames"),
        "still": ("motion", "little_motion"),
        "whole": ("duplicate", "same_content"),
        "whole_renamed_clip": ("duplicate", "same_content"),
    }
