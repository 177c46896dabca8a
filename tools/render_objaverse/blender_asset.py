"""What the worker shows: a file that Blender reads itself, or a glTF asset that was posed outside.

Imported by `blender_worker`, next to which it lies; only the standard library, numpy and bpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from blender_open import BLEND, open_file  # beside this file
from blender_takes import Player


class FileAsset:
    """An FBX or Blender file: its clips, one of them played at a time, its vertices."""

    def __init__(self, bpy: Any, path: Path) -> None:
        self.bpy = bpy
        self.bounded = path.suffix.lower() != BLEND  # hair, volumes and displacement leave bounding boxes
        self.opened = open_file(bpy, path)
        self.player = Player(bpy, self.opened)

    def clips(self) -> list[dict[str, Any]]:
        """Name, first and last second of every clip."""
        fps = self.opened.fps
        return [{"name": take.name, "start": take.start / fps, "end": take.end / fps} for take in self.player.takes]

    def play(self, clip: str | None) -> None:
        """Make `clip` the only animation; None is the pose as opened.

        Raises:
            RuntimeError: no such clip.
        """
        takes = {take.name: take for take in self.player.takes}
        if clip is not None and clip not in takes:
            raise RuntimeError(f"no clip {clip!r}; it has: {', '.join(takes)}")
        self.player.play(None if clip is None else takes[clip])

    def set_time(self, seconds: float) -> None:
        """Show the clip at a time."""
        frame = seconds * self.opened.fps
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


class PosedAsset:
    """Looks out of a GLB and vertices out of arrays, as `posed_glb` writes them; a time is a number of a pose."""

    bounded = True

    def __init__(self, bpy: Any, looks: Path, poses: Path) -> None:
        self.bpy = bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.import_scene.gltf(filepath=str(looks), loglevel=50)
        with np.load(poses) as arrays:
            self.poses = dict(arrays)
        for item in bpy.context.scene.objects:
            if len(item.data.vertices) != self.poses[f"{item.name}_points"].shape[1]:
                raise RuntimeError(f"{item.name}: {len(item.data.vertices)} vertices were imported, not those sent")
            if "custom_normal" in item.data.attributes:
                item.data.attributes.remove(item.data.attributes["custom_normal"])
            item.data.attributes.new("custom_normal", "FLOAT_VECTOR", "POINT")
        for material in bpy.data.materials:
            if material.use_backface_culling:
                hide_backs(material.node_tree)

    def play(self, clip: str | None) -> None:
        """There is one clip."""

    def set_time(self, number: float) -> None:
        """Show pose `number`."""
        for item in self.bpy.context.scene.objects:
            if item.type == "MESH":
                points = self.poses[f"{item.name}_points"][int(number)]
                item.data.vertices.foreach_set("co", np.ascontiguousarray(points).ravel())
                normals = np.ascontiguousarray(self.poses[f"{item.name}_normals"][int(number)])
                item.data.attributes["custom_normal"].data.foreach_set("vector", normals.ravel())
                item.data.update()


def hide_backs(tree: Any) -> None:
    """Let light through where a face is seen from behind: Cycles itself has no single-sided materials."""
    output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL" and node.is_active_output)
    surface = output.inputs["Surface"]
    if not surface.is_linked:
        return
    front = surface.links[0].from_socket
    geometry, mix = tree.nodes.new("ShaderNodeNewGeometry"), tree.nodes.new("ShaderNodeMixShader")
    nothing = tree.nodes.new("ShaderNodeBsdfTransparent")
    tree.links.new(geometry.outputs["Backfacing"], mix.inputs[0])
    tree.links.new(front, mix.inputs[1])
    tree.links.new(nothing.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], surface)
