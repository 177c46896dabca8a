"""Blender worker: one .fbx or .blend file to a GLB with all its clips. Run as a script; stdlib and bpy only.

python blender_convert.py INPUT OUTPUT.glb
"""

import os
import sys


def main() -> int:
    source, target = sys.argv[1:3]
    os.dup2(2, 1)  # Blender prints on standard output from C
    import bpy

    if source.lower().endswith(".blend"):
        # Scripts inside the file are not trusted.
        bpy.ops.wm.open_mainfile(filepath=source, use_scripts=False)
    else:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.import_scene.fbx(filepath=source)
    bpy.ops.export_scene.gltf(filepath=target, export_format="GLB", export_animation_mode="ACTIONS")
    return 0 if os.path.isfile(target) else 1


if __name__ == "__main__":
    sys.exit(main())
