"""An asset inside Blender: opened, its clips listed, one of them played alone, its vertices read.

Imported by `blender_worker`, next to which it lies; only the standard library, numpy and bpy.
"""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

FPS = 24


class Asset:
    """The open file: its clips and how to play one of them alone."""

    def __init__(self, path: str) -> None:
        import bpy

        self.bpy = bpy
        source = Path(path)
        self.bounded = source.suffix.lower() != ".blend"  # hair, volumes and displacement leave bounding boxes
        # Blender evaluates the first clip while it imports, so the rest state can only be seen without any clip: a
        # clip that leaves a bone alone must not inherit it from the clip before.
        self.rest: tuple[dict, dict, dict] = ({}, {}, {})
        if source.suffix.lower() in (".glb", ".gltf"):
            with tempfile.TemporaryDirectory() as folder:
                self._load(without_animations(source, Path(folder)))
            self.rest = self._state()
        self._load(source)
        self.animated = [
            item.animation_data
            for item in [*bpy.context.scene.objects, *bpy.data.shape_keys]
            if item.animation_data is not None
        ]
        self.tracks = any(len(data.nla_tracks) for data in self.animated)

    def _state(self) -> tuple[dict, dict, dict]:
        """Transforms of the objects, of their bones, and values of the shape keys, by name."""
        objects = self.bpy.context.scene.objects
        bones = {
            (item.name, bone.name): bone.matrix_basis.copy()
            for item in objects
            if item.pose
            for bone in item.pose.bones
        }
        keys = {(keys.name, block.name): block.value for keys in self.bpy.data.shape_keys for block in keys.key_blocks}
        return {item.name: item.matrix_basis.copy() for item in objects}, bones, keys

    def _load(self, path: Path) -> None:
        bpy, ops = self.bpy, self.bpy.ops
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.render.fps = FPS
        suffix = path.suffix.lower()
        if suffix in (".glb", ".gltf"):
            # TEMPERANCE: the default heuristic silently misplaces rigid meshes that hang on bones.
            ops.import_scene.gltf(filepath=str(path), bone_heuristic="TEMPERANCE", disable_bone_shape=True, loglevel=50)
        elif suffix == ".fbx":
            ops.import_scene.fbx(filepath=str(path))
        elif suffix == ".blend":
            # Scripts inside the file never run.
            ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
        else:
            raise RuntimeError(f"cannot open {suffix} files")
        scene = bpy.context.scene
        # FBX and Blender files bring their own rate; their keys lie on its frames.
        self.fps = scene.render.fps / scene.render.fps_base
        for item in [item for item in scene.objects if item.type in ("LIGHT", "CAMERA")]:
            bpy.data.objects.remove(item)

    def clips(self) -> list[dict[str, Any]]:
        """Name, first and last second of every clip; a file without NLA tracks is one clip, played as it is."""
        ranges: dict[str, list[float]] = {}
        for data in self.animated:
            if self.tracks:
                for track in data.nla_tracks:
                    for strip in track.strips:
                        ranges.setdefault(track.name, []).extend(strip.action.frame_range)
            elif data.action is not None:
                ranges.setdefault("scene", []).extend(data.action.frame_range)
        return [
            {"name": name, "start": min(values) / self.fps, "end": max(values) / self.fps}
            for name, values in ranges.items()
        ]

    def play(self, clip: str | None) -> None:
        """Make `clip` the only animation; None is the pose as imported."""
        if not self.tracks and clip is not None:
            return
        scene = self.bpy.context.scene
        for data in self.animated:
            data.use_nla = False
            data.action = None
        objects, bones, keys = self.rest
        for name, matrix in objects.items():
            scene.objects[name].matrix_basis = matrix
        for (name, bone), matrix in bones.items():
            scene.objects[name].pose.bones[bone].matrix_basis = matrix
        for (name, block), value in keys.items():
            self.bpy.data.shape_keys[name].key_blocks[block].value = value
        for data in self.animated:
            for track in data.nla_tracks:
                if track.name == clip:
                    data.action = track.strips[0].action
                    data.action_slot = track.strips[0].action_slot

    def set_time(self, seconds: float) -> None:
        frame = seconds * self.fps
        whole = int(np.floor(frame))
        self.bpy.context.scene.frame_set(whole, subframe=float(frame - whole))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """World vertices float32 [N, 3] and triangles int32 [T, 3] of what would be rendered now."""
        graph = self.bpy.context.evaluated_depsgraph_get()
        vertices, triangles, first = [], [], 0
        for item in self.bpy.context.scene.objects:
            if item.type != "MESH" or item.hide_render or not item.visible_get():
                continue
            mesh = item.evaluated_get(graph).to_mesh()
            local = np.empty(len(mesh.vertices) * 3, np.float32)
            mesh.vertices.foreach_get("co", local)
            matrix = np.array(item.evaluated_get(graph).matrix_world, np.float32)
            vertices.append(local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
            mesh.calc_loop_triangles()
            corners = np.empty(len(mesh.loop_triangles) * 3, np.int32)
            mesh.loop_triangles.foreach_get("vertices", corners)
            triangles.append(corners.reshape(-1, 3) + first)
            first += len(vertices[-1])
            item.evaluated_get(graph).to_mesh_clear()
        if not vertices:
            raise RuntimeError("the file shows no mesh")
        return np.concatenate(vertices), np.concatenate(triangles)


def without_animations(path: Path, folder: Path) -> Path:
    """A copy of a glTF file in `folder` that has no clips; what it refers to by name stays where it is."""
    data = path.read_bytes()
    binary = data[:4] == b"glTF"
    size = struct.unpack_from("<I", data, 12)[0] if binary else len(data)
    document = json.loads(data[20 : 20 + size] if binary else data)
    document.pop("animations", None)
    for entry in [*document.get("buffers", []), *document.get("images", [])]:
        if "uri" in entry and not entry["uri"].startswith("data:"):
            entry["uri"] = quote(str(path.resolve().parent / unquote(entry["uri"])))
    text = json.dumps(document).encode()
    copy = folder / path.name
    if not binary:
        copy.write_bytes(text)
        return copy
    text += b" " * (-len(text) % 4)
    rest = data[20 + size : struct.unpack_from("<I", data, 8)[0]]
    header = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    copy.write_bytes(header + text + rest)
    return copy
