"""Opens a file that only Blender reads so that only its objects and their motion are left of it.

What a .blend says about pictures (compositor, sequencer, caches on disk, Freestyle scripts, Cycles settings) could
write files to places of its choice or change what is rendered: its visible objects are taken into a new scene.
Imported by scripts that lie beside it; only the standard library and bpy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME", "GREASEPENCIL")
IMAGE_PIXELS, ALL_PIXELS = 8192 * 8192, 2 * 8192 * 8192  # as gltf_file.Limits
HEADER_BYTES = 1 << 18
BLEND, FBX = ".blend", ".fbx"


@dataclass
class Rest:
    """Transforms of objects and of their bones, and values of shape keys, by name, while nothing plays."""

    objects: dict[str, Any] = field(default_factory=dict)
    bones: dict[tuple[str, str], Any] = field(default_factory=dict)
    keys: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, bpy: Any, scene: Any) -> Rest:
        """The state that the scene is in."""
        return cls(
            {item.name: item.matrix_basis.copy() for item in scene.objects},
            {
                (item.name, bone.name): bone.matrix_basis.copy()
                for item in scene.objects
                if item.pose
                for bone in item.pose.bones
            },
            {(keys.name, block.name): block.value for keys in bpy.data.shape_keys for block in keys.key_blocks},
        )

    def restore(self, bpy: Any) -> None:
        """Bring it back."""
        for name, matrix in self.objects.items():
            bpy.data.objects[name].matrix_basis = matrix
        for (name, bone), matrix in self.bones.items():
            bpy.data.objects[name].pose.bones[bone].matrix_basis = matrix
        for (name, block), value in self.keys.items():
            bpy.data.shape_keys[name].key_blocks[block].value = value


@dataclass
class Opened:
    """A file in Blender's one scene.

    Attributes:
        fps: frames a second of its own time line.
        stacks: FBX only: (name, [(who moves, action, slot)]) of each take.
        frames: first and last frame of the file's scene.
    """

    fps: float
    rest: Rest
    stacks: list[tuple[str, list[tuple[Any, Any, Any]]]]
    frames: tuple[float, float]


def open_file(bpy: Any, path: Path) -> Opened:
    """Open an FBX or Blender file; lights and cameras are removed.

    Raises:
        RuntimeError: Blender cannot read it.
    """
    suffix = path.suffix.lower()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    rest, stacks = Rest(), []
    if suffix == FBX:
        rest, stacks = _import_fbx(bpy, path)
    elif suffix == BLEND:
        # Scripts inside the file never run.
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
        scene = _only_objects(bpy)
        rest = Rest.of(bpy, scene)
    else:
        raise RuntimeError(f"cannot open {suffix} files")
    refuse_large_images(bpy)
    for item in [item for item in scene.objects if item.type in ("LIGHT", "CAMERA")]:
        bpy.data.objects.remove(item)
    fps = scene.render.fps / scene.render.fps_base
    return Opened(fps, rest, stacks, (float(scene.frame_start), float(scene.frame_end)))


def _import_fbx(bpy: Any, path: Path) -> tuple[Rest, list[tuple[str, list[tuple[Any, Any, Any]]]]]:
    """Import, and note which actions make each take.

    The importer leaves the actions of all takes unassigned but the first, under names that it cuts at 63 bytes. It is
    called once a take here, so that what it assigns is that take's.
    """
    from io_scene_fbx import import_fbx as importer

    whole = importer.blen_read_animations
    rests: list[Rest] = []
    stacks: list[tuple[str, list[tuple[Any, Any, Any]]]] = []

    def take_by_take(template: Any, layer: Any, found: dict[Any, Any], scene: Any, *more: Any) -> None:
        rests.append(Rest.of(bpy, scene))
        for key, stack in found.items():
            for owner in carriers(bpy, scene):
                owner.animation_data.action = None
            whole(template, layer, {key: stack}, scene, *more)
            moving = [
                (owner, owner.animation_data.action, owner.animation_data.action_slot)
                for owner in carriers(bpy, scene)
                if owner.animation_data.action is not None
            ]
            if moving:
                stacks.append((importer.elem_name_ensure_class(stack[0][0], b"AnimStack"), moving))

    importer.blen_read_animations = take_by_take
    try:
        bpy.ops.import_scene.fbx(filepath=str(path))
    finally:
        importer.blen_read_animations = whole
    return (rests[0] if rests else Rest()), stacks


def refuse_large_images(bpy: Any) -> None:
    """Look at the headers of packed and neighbouring images before anything asks Blender for their pixels.

    Raises:
        RuntimeError: one image, or all together, have more pixels than glTF files may have.
    """
    total = 0
    for image in bpy.data.images:
        if image.packed_file is not None:
            head = bytes(image.packed_file.data[:HEADER_BYTES])
        else:
            path = Path(bpy.path.abspath(image.filepath_from_user()))
            if not path.is_file():
                continue
            with path.open("rb") as file:
                head = file.read(HEADER_BYTES)
        width, height = image_size(head)
        total += width * height
        if width * height > IMAGE_PIXELS or total > ALL_PIXELS:
            raise RuntimeError(f"image {image.name!r} of {width} x {height}: over the limit of {IMAGE_PIXELS:,} pixels")


def image_size(head: bytes) -> tuple[int, int]:
    """(width, height) that a PNG or JPEG declares at its beginning; (0, 0) for any other file."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return struct.unpack_from(">II", head, 16)
    place = 2
    while head.startswith(b"\xff\xd8") and place + 9 <= len(head):
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if head[place] != 0xFF:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, place + 5)
            return width, height
        place += 2 + length
    return 0, 0


def carriers(bpy: Any, scene: Any) -> list[Any]:
    """What can move a surface and has animation data: objects, their data, shape keys."""
    found = {}
    for item in scene.objects:
        for owner in (item, item.data, getattr(item.data, "shape_keys", None)):
            if owner is not None and getattr(owner, "animation_data", None) is not None:
                found[owner.as_pointer()] = owner
    return list(found.values())


def _only_objects(bpy: Any) -> Any:
    """A new scene with what is visible in the file's, and nothing that writes to disk by itself."""
    old = bpy.context.scene
    # Skeletons and handles move what is visible though they are not.
    kept = [item for item in old.objects if item.visible_get() or item.type not in SURFACES]
    scene = bpy.data.scenes.new("viewtime")
    scene.render.fps, scene.render.fps_base = old.render.fps, old.render.fps_base
    scene.frame_start, scene.frame_end = old.frame_start, old.frame_end
    for item in kept:
        scene.collection.objects.link(item)
    bpy.context.window.scene = scene
    for other in [other for other in bpy.data.scenes if other != scene]:
        bpy.data.scenes.remove(other)
    for text in list(bpy.data.texts):
        bpy.data.texts.remove(text)
    for item in bpy.data.objects:
        for modifier in [modifier for modifier in item.modifiers if modifier.type == "FLUID"]:
            item.modifiers.remove(modifier)  # a domain in replay mode writes its cache where the file says
        for holder in [*item.modifiers, *item.particle_systems]:
            cache = getattr(holder, "point_cache", None)
            if cache is not None:
                cache.use_disk_cache = cache.use_external = False
    return scene
