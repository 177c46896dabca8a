"""Blender's own reading of a glTF file, beside ours: world vertices of a clip at some times, by Blender's importer.

    python benchmarks/blender_import.py FILE CLIP_NUMBER TIME,TIME,... OUT.npz      (the number -1: no clip)

The render engines do not go this way: Cycles is shown what our reader posed. This is the second opinion on the reader.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FPS = 24


def imported_points(path: Path, clip: int | None, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World vertices [F, N, 3] and triangles [T, 3] as Blender evaluates them after its own import."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "points.npz"
        words = [
            str(path.resolve()),
            str(-1 if clip is None else clip),
            ",".join(str(float(t)) for t in times),
            str(out),
        ]
        subprocess.run([sys.executable, str(Path(__file__).resolve()), *words], check=True, capture_output=True)
        with np.load(out) as arrays:
            return arrays["positions"], arrays["triangles"]


def with_one_clip(path: Path, clip: int, folder: Path) -> Path:
    """A copy of the GLB whose only animation is number `clip`; without any where it is -1."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    animations = document.pop("animations", [])
    if clip >= 0:
        document["animations"] = [animations[clip] | {"name": "clip"}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size : struct.unpack_from("<I", data, 8)[0]]
    copy = folder / "one.glb"
    header = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    copy.write_bytes(header + text + rest)
    return copy


def main() -> None:
    path, clip, times, out = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
    import bpy

    # Blender evaluates the first clip while it imports; with one clip there is none to inherit from.
    with tempfile.TemporaryDirectory() as folder:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        scene.render.fps = FPS
        source = str(with_one_clip(path, clip, Path(folder)))
        # TEMPERANCE: the default heuristic silently misplaces rigid meshes that hang on bones.
        bpy.ops.import_scene.gltf(filepath=source, bone_heuristic="TEMPERANCE", disable_bone_shape=True, loglevel=50)
    poses, triangles = [], np.zeros((0, 3), np.int32)
    for time in times:
        frame = float(time) * FPS
        scene.frame_set(int(np.floor(frame)), subframe=frame - float(np.floor(frame)))
        graph = bpy.context.evaluated_depsgraph_get()
        vertices, faces, first = [], [], 0
        for item in (item for item in scene.objects if item.type == "MESH" and item.visible_get()):
            mesh = item.evaluated_get(graph).to_mesh()
            local = np.empty(len(mesh.vertices) * 3, np.float32)
            mesh.vertices.foreach_get("co", local)
            matrix = np.array(item.evaluated_get(graph).matrix_world, np.float32)
            vertices.append(local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
            mesh.calc_loop_triangles()
            corners = np.empty(len(mesh.loop_triangles) * 3, np.int32)
            mesh.loop_triangles.foreach_get("vertices", corners)
            faces.append(corners.reshape(-1, 3) + first)
            first += len(vertices[-1])
            item.evaluated_get(graph).to_mesh_clear()
        poses.append(np.concatenate(vertices))
        triangles = np.concatenate(faces)
    np.savez(out, positions=np.stack(poses), triangles=triangles)


if __name__ == "__main__":
    main()
