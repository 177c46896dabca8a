"""Blender worker: one .fbx or .blend file to a GLB with all its clips. Run as a script; standard library and bpy only.

python blender_convert.py INPUT OUTPUT.glb

Each take is played in Blender and exported as the scene that it shows, with whatever skeletons, constraints and drivers
do to it; the exports' animations are then put into one file.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

Glb = tuple[dict[str, Any], bytes]


def main(source: Path, target: Path) -> None:
    """Convert a file.

    Raises:
        RuntimeError: Blender cannot read it.
    """
    import bpy
    from blender_open import open_file  # beside this file, which is run as a script
    from blender_takes import Player

    player = Player(bpy, open_file(bpy, source))
    exports = []
    suffix = f".{os.getpid()}.partial"  # what a kill leaves is swept by its name (`viewtime.files`)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-", suffix=suffix) as folder:
        for take in player.takes or [None]:
            player.play(take)
            if take is not None:
                scene = bpy.context.scene
                scene.frame_start, scene.frame_end = math.floor(take.start + 1e-3), math.ceil(take.end - 1e-3)
            path = Path(folder) / "take.glb"
            bpy.ops.export_scene.gltf(
                filepath=str(path),
                export_format="GLB",
                export_animations=take is not None,
                export_animation_mode="SCENE",
                export_anim_scene_split_object=False,
                export_bake_animation=True,
                export_apply=not bpy.data.shape_keys,  # the exporter cannot have both
            )
            exports.append((None if take is None else take.name, read_glb(path)))
    write_glb(target, joined(exports))


def joined(exports: list[tuple[str | None, Glb]]) -> Glb:
    """The first export with the animations of all, each under its take's name.

    Raises:
        RuntimeError: the exports do not show the same nodes.
    """
    document, binary = exports[0][1]
    animations: list[dict[str, Any]] = []
    for name, (other, data) in exports:
        if [node.get("name") for node in other["nodes"]] != [node.get("name") for node in document["nodes"]]:
            raise RuntimeError(f"the take {name!r} has other nodes than the first one")
        if other is not document:
            binary = _append(document, binary, other, data)
        animations += [entry | {"name": name} for entry in other.get("animations", [])]
    if animations:
        document["animations"] = animations
    return document, binary


def _append(document: dict[str, Any], binary: bytes, other: dict[str, Any], data: bytes) -> bytes:
    """Copy the accessors of the other file's animations; they are renumbered in place. The binary, longer by them."""
    known: dict[int, int] = {}

    def copied(index: int) -> int:
        if index not in known:
            nonlocal binary
            accessor = other["accessors"][index]
            view = other["bufferViews"][accessor["bufferView"]]
            start = view.get("byteOffset", 0)
            document["bufferViews"].append(view | {"byteOffset": len(binary)})
            binary += data[start : start + view["byteLength"]]
            binary += b"\0" * (-len(binary) % 4)
            known[index] = len(document["accessors"])
            document["accessors"].append(accessor | {"bufferView": len(document["bufferViews"]) - 1})
        return known[index]

    for animation in other.get("animations", []):
        for sampler in animation["samplers"]:
            sampler["input"], sampler["output"] = copied(sampler["input"]), copied(sampler["output"])
    document["buffers"][0]["byteLength"] = len(binary)
    return binary


def read_glb(path: Path) -> Glb:
    """Document and binary chunk, padded to a multiple of four bytes."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def write_glb(path: Path, glb: Glb) -> None:
    """One file again."""
    document, binary = glb
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary)


if __name__ == "__main__":
    os.dup2(2, 1)  # Blender prints on standard output from C
    try:
        main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())  # Blender takes relative paths from $PWD
    except Exception as error:
        print(f"Error: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
        os._exit(1)
    # Blender frees itself when Python ends, and waits for ever where a driver was evaluated.
    os._exit(0)
