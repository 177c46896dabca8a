"""Blender's side: `python blender_worker.py REQUEST` reads a GLB and writes it in another format, with bpy alone.

The request is JSON: glb, kind (fbx, usd, usdz or alembic), out, fps.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """One file in, one file out; whatever goes wrong is an exception, whose last line the caller shows."""
    request = json.loads(sys.argv[1])
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = request["fps"], 1.0
    bpy.ops.import_scene.gltf(filepath=request["glb"], disable_bone_shape=True, loglevel=50)
    actions = [action for action in bpy.data.actions if action.users]
    scene.frame_start = 0
    scene.frame_end = round(max((action.frame_range[1] for action in actions), default=0))
    skinned = any(item.type == "ARMATURE" for item in scene.objects)
    kind, out = request["kind"], request["out"]
    if kind == "fbx":
        # Shape keys move only in the animation of the whole scene, not in those of single actions.
        bpy.ops.export_scene.fbx(
            filepath=out, path_mode="COPY", embed_textures=True, add_leaf_bones=False, bake_anim_use_all_actions=False,
            bake_anim_use_nla_strips=False, bake_anim_simplify_factor=0.0,
        )  # fmt: skip
    elif kind == "alembic":
        first, last = scene.frame_start, scene.frame_end
        bpy.ops.wm.alembic_export(filepath=out, start=first, end=last, as_background_job=False)
    else:
        bpy.ops.wm.usd_export(
            filepath=out, export_animation=True, export_armatures=skinned, export_shapekeys=False, export_normals=True,
            export_uvmaps=True, export_materials=True, root_prim_path="/root",
        )  # fmt: skip


if __name__ == "__main__":
    main()
