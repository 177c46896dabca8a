"""Blender's side of the Cycles engine: a process that opens one asset at a time and renders it on request.

Runs as `python blender_worker.py CPUS THREADS` with only the standard library, numpy, bpy and `blender_asset`. Requests
are JSON lines on standard input, replies are JSON lines on the original standard output; whatever Blender itself prints
goes to standard error's log. It never decides anything: cameras, times and scale all come with the request.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from blender_asset import FileAsset, PosedAsset  # beside this file, which is run as a script

SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT")


def use_device(bpy: Any, kind: str, number: int) -> str:
    """Let Cycles render on the CPU, or on one GPU of a kind, counted round; returns its name.

    Raises:
        RuntimeError: there is none; names those that there are.
    """
    cycles = bpy.context.scene.cycles
    cycles.device = "CPU" if kind == "cpu" else "GPU"
    cycles.denoising_use_gpu = kind != "cpu"
    if kind == "cpu":
        return "cpu"
    settings = bpy.context.preferences.addons["cycles"].preferences
    known = [name for name, *_ in settings.get_device_types(bpy.context) if name != "NONE"]
    every = {name: [d for d in settings.get_devices_for_type(name) if d.type == name] for name in known}
    found = every.get(kind.upper(), [])
    if not found:
        others = [
            f"{name.lower()} ({', '.join(d.name for d in devices)})" for name, devices in every.items() if devices
        ]
        raise RuntimeError(f"Cycles finds no {kind} device here; it finds {', '.join([*others, 'cpu'])}")
    settings.compute_device_type = kind.upper()
    for device in settings.devices:
        device.use = False
    chosen = found[number % len(found)]
    chosen.use = True
    return chosen.name


def set_up_cycles(bpy: Any, request: dict[str, Any], threads: int) -> None:
    """Settings by measurement: MANUAL importance map, BALANCED denoiser with FAST prefilter, persistent data."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x = scene.render.resolution_y = request["size"]
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "8"
    scene.render.image_settings.compression = 0
    scene.view_settings.view_transform = "Standard"  # the default, AgX, washes colours out
    cycles = scene.cycles
    use_device(bpy, request["device"], request["device_number"])
    cycles.samples, cycles.seed = request["samples"], request["seed"]
    cycles.use_adaptive_sampling = False
    cycles.transparent_max_bounces = 64  # every layer of hidden backs and translucent cards is one
    # A pixel is the mean over its own square, as in the GL engine; the default blurs it over its neighbours, which
    # at few samples leaves noise where a silhouette ends.
    cycles.pixel_filter_type = "BOX"
    cycles.use_denoising = request["denoise"]
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.denoising_quality, cycles.denoising_prefilter = "BALANCED", "FAST"
    layer = bpy.context.view_layer
    layer.use_pass_z, layer.use_pass_normal = request["depth"], request["normals"]


def set_world(bpy: Any, image: str, turn: float, strength: float) -> None:
    """Light the scene with an equirectangular image, turned by `turn` radians about the vertical.

    Raises:
        ValueError: no image that Blender can read; it would light with pink.
    """
    world = bpy.data.worlds.new("light")
    bpy.context.scene.world = world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture = nodes.new("ShaderNodeTexEnvironment")
    texture.image = bpy.data.images.load(image, check_existing=True)
    if not (all(texture.image.size) and texture.image.has_data):
        raise ValueError(f"the world {image} cannot be read: put a whole .exr or .hdr in its place, or take it away")
    place, coordinates = nodes.new("ShaderNodeMapping"), nodes.new("ShaderNodeTexCoord")
    place.inputs["Rotation"].default_value = (0.0, 0.0, turn)
    links.new(coordinates.outputs["Generated"], place.inputs["Vector"])
    links.new(place.outputs["Vector"], texture.inputs["Vector"])
    links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])
    nodes["Background"].inputs["Strength"].default_value = strength
    # AUTOMATIC rebuilds the importance map for every image: over a second each.
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 128


def crop_to_object(bpy: Any) -> None:
    """Render only where bounding boxes of surfaces are in the picture, a pixel wider: empty rays take time too."""
    from bpy_extras.object_utils import world_to_camera_view
    from mathutils import Vector

    scene = bpy.context.scene
    seen = [
        world_to_camera_view(scene, scene.camera, instance.matrix_world @ Vector(corner))
        for instance in bpy.context.evaluated_depsgraph_get().object_instances
        if instance.object.type in SURFACES
        for corner in instance.object.bound_box
    ]
    places = np.array(seen)  # (x, y, depth); x and y from 0 at the left and the bottom to 1
    margin = 1 / scene.render.resolution_x
    left, bottom = np.maximum(places[:, :2].min(axis=0) - margin, 0)
    right, top = np.minimum(places[:, :2].max(axis=0) + margin, 1)
    scene.render.use_border = bool(places[:, 2].min() > 0 and left < right and bottom < top)
    scene.render.border_min_x, scene.render.border_max_x = left, right
    scene.render.border_min_y, scene.render.border_max_y = bottom, top


def geometry_output(bpy: Any, folder: str, names: list[str]) -> None:
    """Write depth and normals as one EXR a pass into `folder` with every render."""
    scene = bpy.context.scene
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    layers = tree.nodes.new("CompositorNodeRLayers")
    output = tree.nodes.new("CompositorNodeOutputFile")
    output.base_path = folder
    output.format.file_format, output.format.color_depth = "OPEN_EXR", "32"
    output.file_slots.clear()
    for name in names:
        output.file_slots.new(name + "_")
        tree.links.new(layers.outputs[{"depth": "Depth", "normal": "Normal"}[name]], output.inputs[name + "_"])
    composite = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(layers.outputs["Image"], composite.inputs["Image"])


def read_exr(bpy: Any, folder: Path, name: str, size: int) -> np.ndarray:
    """The pass written last, float32 [H, W, 4] with the top row first; the file is removed."""
    (path,) = folder.glob(f"{name}_*.exr")
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(size * size * 4, np.float32)
    image.pixels.foreach_get(values)
    bpy.data.images.remove(image)
    path.unlink()
    return values.reshape(size, size, 4)[::-1]


def render(asset: FileAsset | PosedAsset, request: dict[str, Any], threads: int) -> None:
    """Render every view and frame to FOLDER/view_VVV/frame_FFF.png, and geometry passes to .npy beside them.

    Cameras are camera-to-world with Blender's axes in the normalised world. Instead of moving the object, each
    camera is taken to the file's own coordinates, so nothing in the file can react to being moved.
    """
    from mathutils import Matrix

    bpy = asset.bpy
    set_up_cycles(bpy, request, threads)
    set_world(bpy, request["world"], request["world_turn"], request["world_strength"])
    scene = bpy.context.scene
    centre, scale = np.array(request["centre"]), float(request["scale"])
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.angle = "VERTICAL", float(np.radians(request["fov_y"]))
    data.clip_start, data.clip_end = 0.05 / scale, 100.0 / scale
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    folder = Path(request["folder"])
    names = [name for name, wanted in (("depth", request["depth"]), ("normal", request["normals"])) if wanted]
    if names:
        geometry_output(bpy, str(folder), names)
    try:
        asset.play(request["clip"])
        cameras = np.array(request["cameras"], np.float64)
        cameras[..., :3, 3] = cameras[..., :3, 3] / scale + centre
        for frame, seconds in enumerate(request["times"]):
            asset.set_time(seconds)
            for view in range(len(cameras)):
                camera.matrix_world = Matrix(cameras[view, frame].tolist())
                if asset.bounded:
                    crop_to_object(bpy)
                scene.render.filepath = str(folder / f"view_{view:03d}" / f"frame_{frame:03d}.png")
                bpy.ops.render.render(write_still=True)
                for name in names:
                    values = read_exr(bpy, folder, name, request["size"])
                    keep = values[..., 0] * scale if name == "depth" else values[..., :3]
                    if name == "depth":
                        keep = np.where(values[..., 0] > 1e9, 0.0, keep)
                    np.save(folder / f"{name}_{view:03d}_{frame:03d}.npy", keep.astype(np.float32))
    finally:
        bpy.data.objects.remove(camera)
        scene.use_nodes = False


def answer(state: dict[str, FileAsset | PosedAsset], request: dict[str, Any], threads: int) -> dict[str, Any]:
    """Carry out one request."""
    import bpy

    operation = request["op"]
    if operation == "open":
        state.clear()
        opened = FileAsset(bpy, Path(request["path"]))
        state["asset"] = opened
        return {"clips": opened.clips()}
    if operation == "open_posed":
        state.clear()
        state["asset"] = PosedAsset(bpy, Path(request["looks"]), Path(request["poses"]))
        return {}
    if operation == "device":
        return {"name": use_device(bpy, request["device"], request["device_number"])}
    if operation == "worlds":
        folder = bpy.utils.system_resource("DATAFILES", path="studiolights/world")
        return {"worlds": sorted(str(path) for path in Path(folder).glob("*.exr"))}
    asset = state["asset"]
    if operation == "points":
        assert isinstance(asset, FileAsset)
        asset.play(request["clip"])
        poses, triangles = [], np.zeros((0, 3), np.int32)
        for seconds in request["times"]:
            asset.set_time(seconds)
            vertices, triangles = asset.points()
            poses.append(vertices)
        np.savez(request["file"], positions=np.stack(poses), triangles=triangles)
        return {}
    if operation == "render":
        render(asset, request, threads)
        return {}
    raise RuntimeError(f"unknown request {operation!r}")


def main() -> None:
    cpus, threads = sys.argv[1], int(sys.argv[2])
    if cpus:
        # Cycles' thread count does not bound the denoiser, only the affinity mask does.
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    state: dict[str, FileAsset | PosedAsset] = {}
    for line in sys.stdin:
        try:
            reply = {"ok": True, **answer(state, json.loads(line), threads)}
        except Exception as error:
            lines = [text.strip() for text in str(error).splitlines() if text.strip()]
            words = next((text for text in lines if text.startswith("Error:")), lines[0] if lines else "")
            reply = {"ok": False, "error": f"{type(error).__name__}: {words}", "traceback": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
