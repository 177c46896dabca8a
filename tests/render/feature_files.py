"""One tiny glTF file for each feature that loaders get wrong, and what has to be seen where.

A file shows a square from its front (glTF's +Z, azimuth 0) that fills [-1, 1] x [-1, 1] unless said otherwise. A fact
is a place on that square, x to the right and y up, and the colour that is seen there: a name out of COLOURS. Every file
is a row of the table in docs/rendering.md and a test in both engines.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from small_gltf import Builder

# Linear RGB of unlit materials; "none" is transparent.
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "black": (0, 0, 0), "white": (1, 1, 1)}
SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
CORNERS = np.array([[0, 1, 2], [0, 2, 3]], np.uint16)
UVS = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)  # v runs down
HALF = 2**-0.5
Facts = dict[tuple[float, float], str]


@dataclass(frozen=True)
class Feature:
    """A row: what is shown, the file, what must be seen at `time` seconds of its first clip (None: at rest)."""

    name: str
    build: Callable[[], Builder]
    facts: Facts
    time: float | None = None


def paint(colour: str, **more: Any) -> dict[str, Any]:
    """An unlit material."""
    base = {"baseColorFactor": [*COLOURS[colour], 1.0]}
    return {"pbrMetallicRoughness": base, "extensions": {"KHR_materials_unlit": {}}, **more}


def blob(builder: Builder, data: bytes) -> int:
    """Add bytes as a buffer view."""
    builder.add(np.frombuffer(data, np.uint8).reshape(-1, 1))
    builder.document["accessors"].pop()
    return len(builder.document["bufferViews"]) - 1


def image(builder: Builder, pixels: np.ndarray, mode: str = "RGBA", **sampler: int) -> int:
    """Add a texture from uint8 [H, W, C]; texels are not smoothed."""
    document, data = builder.document, io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8), mode).save(data, "PNG")
    document.setdefault("images", []).append({"bufferView": blob(builder, data.getvalue()), "mimeType": "image/png"})
    document.setdefault("samplers", []).append({"magFilter": 9728, "minFilter": 9728, **sampler})
    number = len(document["samplers"]) - 1
    document.setdefault("textures", []).append({"source": len(document["images"]) - 1, "sampler": number})
    return len(document["textures"]) - 1


def square(
    builder: Builder,
    material: dict[str, Any],
    *,
    points: np.ndarray = SQUARE,
    faces: np.ndarray = CORNERS,
    uvs: np.ndarray | None = None,
    **node: Any,
) -> int:
    """Add a square on a node of its own; the node's number."""
    document = builder.document
    mesh = builder.mesh(points, faces, material)
    attributes = document["meshes"][mesh]["primitives"][0]["attributes"]
    if uvs is not None:
        attributes["TEXCOORD_0"] = builder.add(uvs.astype(np.float32))
    document["nodes"].append({"mesh": mesh, **node})
    document["scenes"][0]["nodes"] = list(range(len(document["nodes"])))
    return len(document["nodes"]) - 1


def quadrants(*colours: str) -> np.ndarray:
    """Four texels: upper left, upper right, lower left, lower right."""
    return np.array([[*COLOURS[colour], 1] for colour in colours]).reshape(2, 2, 4) * 255


def turned_over(points: np.ndarray = SQUARE) -> dict[str, Any]:
    return {"points": points, "faces": CORNERS[:, ::-1]}


def base_texture() -> Builder:
    builder = Builder()
    texture = image(builder, quadrants("red", "green", "blue", "white"))
    material = paint("white") | {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
    square(builder, material, uvs=UVS)
    return builder


def emissive_texture() -> Builder:
    """Black but for what the texture glows."""
    builder = Builder()
    texture = image(builder, quadrants("red", "green", "blue", "black"))
    base = {"baseColorFactor": [0, 0, 0, 1], "metallicFactor": 0, "roughnessFactor": 1}
    dull = {"KHR_materials_specular": {"specularFactor": 0}}
    material = {"pbrMetallicRoughness": base, "emissiveTexture": {"index": texture}, "emissiveFactor": [1, 1, 1]}
    square(builder, material | {"extensions": dull}, uvs=UVS)
    return builder


def emissive_strength() -> Builder:
    builder = Builder()
    base = {"baseColorFactor": [0, 0, 0, 1], "metallicFactor": 0, "roughnessFactor": 1}
    glow = {"KHR_materials_emissive_strength": {"emissiveStrength": 10.0}}
    dull = {"KHR_materials_specular": {"specularFactor": 0}}
    square(builder, {"pbrMetallicRoughness": base, "emissiveFactor": [0.1, 0, 0], "extensions": glow | dull})
    return builder


def texture_transform() -> Builder:
    """Only the upper right texel is spread over the square."""
    builder = Builder()
    texture = image(builder, quadrants("red", "green", "blue", "white"))
    placed = {"KHR_texture_transform": {"offset": [0.5, 0.0], "scale": [0.5, 0.5]}}
    base = {"baseColorTexture": {"index": texture, "extensions": placed}}
    square(builder, paint("white") | {"pbrMetallicRoughness": base}, uvs=UVS)
    return builder


def wrapped(mode: int) -> Callable[[], Builder]:
    """Red, then green, over u in [0, 1]; the square shows u in [0, 2]."""

    def build() -> Builder:
        builder = Builder()
        texture = image(builder, quadrants("red", "green", "red", "green"), wrapS=mode, wrapT=mode)
        material = paint("white") | {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
        square(builder, material, uvs=UVS * [2, 1])
        return builder

    return build


def outline() -> Builder:
    """A toon outline: a larger black shell that is inside out around a red square."""
    builder = Builder()
    square(builder, paint("red", doubleSided=True), points=SQUARE * 0.8)
    square(builder, paint("black"), **turned_over(SQUARE + np.array([0, 0, 0.3], np.float32)))
    return builder


def double_sided() -> Builder:
    builder = Builder()
    square(builder, paint("red", doubleSided=True), **turned_over())
    return builder


def mirrored_node() -> Builder:
    """A negative scale turns the winding round, and the front stays in front."""
    builder = Builder()
    square(builder, paint("red"), scale=[-1, 1, 1])
    return builder


def opaque_blend() -> Builder:
    """BLEND that is opaque: a green square behind a red one, drawn after it."""
    builder = Builder()
    square(builder, paint("red", alphaMode="BLEND"))
    square(builder, paint("green", alphaMode="BLEND"), points=SQUARE - np.array([0, 0, 0.5], np.float32))
    return builder


def half_blend() -> Builder:
    """Alpha 0 left of the middle, 1 right of it: red over green, whichever comes first in the file."""
    builder = Builder()
    pixels = quadrants("red", "red", "red", "red")
    pixels[:, 0, 3] = 0
    texture = image(builder, pixels)
    material = paint("white", alphaMode="BLEND") | {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
    square(builder, material, uvs=UVS)
    square(builder, paint("green", alphaMode="BLEND"), points=SQUARE - np.array([0, 0, 0.5], np.float32))
    return builder


def alpha_mask() -> Builder:
    builder = Builder()
    pixels = quadrants("red", "red", "red", "red")
    pixels[:, 0, 3] = 100
    texture = image(builder, pixels)
    material = paint("white", alphaMode="MASK") | {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
    square(builder, material, uvs=UVS)
    return builder


def vertex_colours() -> Builder:
    builder = Builder()
    node = square(builder, paint("white"))
    mesh = builder.document["meshes"][builder.document["nodes"][node]["mesh"]]
    colours = np.tile(np.array([[0, 1, 0, 1]], np.float32), (4, 1))
    mesh["primitives"][0]["attributes"]["COLOR_0"] = builder.add(colours)
    return builder


def hidden_node() -> Builder:
    """A red square hides behind nothing: the green one in front of it, and all below it, is invisible."""
    builder = Builder()
    square(builder, paint("red"))
    above = square(
        builder,
        paint("green"),
        points=SQUARE + np.array([0, 0, 0.5], np.float32),
        extensions={"KHR_node_visibility": {"visible": False}},
    )
    child = square(builder, paint("blue"), points=SQUARE + np.array([0, 0, 0.7], np.float32))
    builder.document["nodes"][above]["children"] = [child]
    builder.document["nodes"].append({"children": [above]})
    builder.document["scenes"][0]["nodes"] = [0, child + 1]
    return builder


def instances() -> Builder:
    """A quarter of the square, at its lower left and upper right."""
    builder = Builder()
    places = builder.add(np.array([[-0.5, -0.5, 0], [0.5, 0.5, 0]], np.float32))
    sizes = builder.add(np.array([[0.5, 0.5, 1], [0.5, 0.5, 1]], np.float32))
    attributes = {"TRANSLATION": places, "SCALE": sizes}
    square(builder, paint("red"), extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}})
    return builder


def animated(node: dict[str, Any], path: str, values: list[list[float]], kind: str = "LINEAR", **clip: Any) -> Builder:
    """The square's left half alone, on a node that moves from 0 to 1 s."""
    builder = Builder()
    half = np.where(SQUARE[:, :1] > 0, SQUARE * [0, 1, 1], SQUARE).astype(np.float32)
    number = square(builder, paint("red", doubleSided=True), points=half, **node)
    square(builder, paint("blue"), points=SQUARE - np.array([0, 0, 0.4], np.float32))
    builder.animate("clip", number, path, [0, 1], np.array(values, np.float32), kind)
    builder.document["animations"][-1].update(clip)
    return builder


def matrix_node() -> Builder:
    """A node given by a matrix is turned by half a turn."""
    matrix = np.eye(4).T.reshape(-1).tolist()
    return animated({"matrix": matrix}, "rotation", [[0, 0, 0, 1], [0, 0, 1, 0]])


def named(name: str | None) -> Callable[[], Builder]:
    def build() -> Builder:
        builder = animated({}, "translation", [[0, 0, 0], [1, 0, 0]])
        if name is None:
            del builder.document["animations"][0]["name"]
        else:
            builder.document["animations"][0]["name"] = name
        return builder

    return build


def step_keys() -> Builder:
    """A key meant for frame 8 of 24 a second; as a float32 it lies a little after 8/24 s."""
    builder = animated({}, "translation", [[0, 0, 0], [1, 0, 0]], "STEP")
    builder.document["animations"].pop()
    builder.animate("clip", 0, "translation", [0, 8 / 24, 1], np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0]]), "STEP")
    return builder


def equal_keys() -> Builder:
    """Two keys at one time are a jump, at the clip's end as well."""
    builder = animated({}, "translation", [[0, 0, 0], [1, 0, 0]])
    builder.document["animations"].pop()
    values = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    builder.animate("clip", 0, "translation", [0, 0.5, 0.5], values)
    return builder


def cubic_keys() -> Builder:
    """Tangents of 0 at both ends, and of 4 in between at the middle key: at 0.75 s the node is 1 to the right."""
    keys = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [4, 0, 0], [0.75, 0, 0], [4, 0, 0], [0, 0, 0], [0.75, 0, 0], [0, 0, 0]]
    builder = animated({}, "translation", [[0, 0, 0]] * 6, "CUBICSPLINE")
    builder.document["animations"].pop()
    builder.animate("clip", 0, "translation", [0, 0.5, 1], np.array(keys), "CUBICSPLINE")
    return builder


def skinned(inverse: bool) -> Callable[[], Builder]:
    """The left half hangs on a joint that moves right by one; bind matrices are given, or the identity for want."""

    def build() -> Builder:
        builder = animated({"skin": 0}, "translation", [[0, 0, 0], [1, 0, 0]])
        document = builder.document
        attributes = document["meshes"][0]["primitives"][0]["attributes"]
        attributes["JOINTS_0"] = builder.add(np.zeros((4, 4), np.uint8))
        attributes["WEIGHTS_0"] = builder.add(np.tile(np.array([[1, 0, 0, 0]], np.float32), (4, 1)))
        document["nodes"].append({"name": "joint"})
        document["scenes"][0]["nodes"].append(2)
        skin: dict[str, Any] = {"joints": [2]}
        if inverse:
            skin["inverseBindMatrices"] = builder.add(np.eye(4, dtype=np.float32).reshape(1, 16))
        document["skins"] = [skin]
        document["animations"][0]["channels"][0]["target"]["node"] = 2
        return builder

    return build


def mixed_morphs() -> Builder:
    """One primitive with a morph target that moves it right by one, and one of the same mesh without any."""
    builder = animated({}, "translation", [[0, 0, 0], [1, 0, 0]])
    document = builder.document
    still = document["meshes"].pop()["primitives"]
    document["nodes"].pop()
    document["scenes"][0]["nodes"] = [0]
    document["animations"] = []
    moving = document["meshes"][0]["primitives"][0]
    moving["targets"] = [{"POSITION": builder.add(np.tile(np.array([[1, 0, 0]], np.float32), (4, 1)))}]
    document["meshes"][0]["primitives"] += still
    builder.animate("clip", 0, "weights", [0, 1], np.array([[0.0], [1.0]]))
    return builder


def one_bad_clip() -> Builder:
    """A clip whose keys go back in time comes before a good one."""
    builder = animated({}, "translation", [[0, 0, 0], [1, 0, 0]])
    good = builder.document["animations"].pop()
    builder.animate("bad", 0, "translation", [1, 0], np.zeros((2, 3)))
    builder.document["animations"].append(good)
    return builder


def grey16() -> Builder:
    """Sixteen bits of grey: black at the left, white at the right."""
    builder = Builder()
    pixels = np.array([[0, 65535], [0, 65535]], np.uint16)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    texture = image(builder, quadrants("red", "red", "red", "red"))
    builder.document["images"][0]["bufferView"] = blob(builder, data.getvalue())
    material = paint("white") | {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
    square(builder, material, uvs=UVS)
    return builder


def quantised() -> Builder:
    """KHR_mesh_quantization: positions in bytes, normalised."""
    builder = Builder()
    square(builder, paint("red"))
    view = builder.add(np.zeros((4, 4), np.uint8))
    accessor = builder.document["accessors"][view]
    start = builder.document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    packed = np.zeros((4, 4), np.int8)
    packed[:, :3] = SQUARE * 127
    builder.binary = builder.binary[:start] + packed.tobytes()
    accessor |= {"componentType": 5120, "type": "VEC3", "normalized": True}
    builder.document["accessors"][view] = accessor
    builder.document["bufferViews"][accessor["bufferView"]]["byteStride"] = 4
    builder.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = view
    builder.document["extensionsRequired"] = ["KHR_mesh_quantization"]
    return builder


def packed_by_meshopt() -> Builder:
    """EXT_meshopt_compression of the square's positions and triangles."""
    import meshopt

    builder = Builder()
    square(builder, paint("red"))
    document = builder.document
    for number, (rows, mode) in enumerate(((SQUARE, "ATTRIBUTES"), (CORNERS.reshape(-1), "TRIANGLES"))):
        data = meshopt.encode_gltf_buffer(rows, mode)
        stride = 12 if mode == "ATTRIBUTES" else 2
        packed = {"buffer": 0, "byteOffset": len(builder.binary), "byteLength": len(data), "byteStride": stride}
        builder.binary += data + b"\0" * (-len(data) % 4)
        packed |= {"count": len(rows), "mode": mode}
        document["bufferViews"][number]["extensions"] = {"EXT_meshopt_compression": packed}
        document["bufferViews"][number]["byteOffset"] = 0
    document["extensionsRequired"] = ["EXT_meshopt_compression"]
    return builder


ALL_RED: Facts = {(-0.5, 0.0): "red", (0.5, 0.0): "red"}
MOVED: Facts = {(-0.5, 0.0): "blue", (0.5, 0.0): "red"}
FEATURES = (
    Feature(
        "base colour texture",
        base_texture,
        {(-0.5, 0.5): "red", (0.5, 0.5): "green", (-0.5, -0.5): "blue", (0.5, -0.5): "white"},
    ),
    Feature(
        "emissive texture",
        emissive_texture,
        {(-0.5, 0.5): "red", (0.5, 0.5): "green", (-0.5, -0.5): "blue", (0.5, -0.5): "black"},
    ),
    Feature("KHR_materials_emissive_strength", emissive_strength, ALL_RED),
    Feature("KHR_texture_transform", texture_transform, {(-0.5, 0.5): "green", (0.5, -0.5): "green"}),
    Feature(
        "wrap REPEAT", wrapped(10497), {(-0.75, 0): "red", (-0.25, 0): "green", (0.25, 0): "red", (0.75, 0): "green"}
    ),
    Feature(
        "wrap CLAMP_TO_EDGE",
        wrapped(33071),
        {(-0.75, 0): "red", (-0.25, 0): "green", (0.25, 0): "green", (0.75, 0): "green"},
    ),
    Feature(
        "wrap MIRRORED_REPEAT",
        wrapped(33648),
        {(-0.75, 0): "red", (-0.25, 0): "green", (0.25, 0): "green", (0.75, 0): "red"},
    ),
    Feature("doubleSided false: outline shell", outline, {(0.0, 0.0): "red", (0.95, 0.0): "none"}),
    Feature("doubleSided true", double_sided, ALL_RED),
    Feature("negative scale", mirrored_node, ALL_RED),
    Feature("BLEND that is opaque", opaque_blend, ALL_RED),
    Feature("BLEND, clear and opaque in one", half_blend, {(-0.5, 0.0): "green", (0.5, 0.0): "red"}),
    Feature("MASK", alpha_mask, {(-0.5, 0.0): "none", (0.5, 0.0): "red"}),
    Feature("vertex colours", vertex_colours, {(0.0, 0.0): "green"}),
    Feature("KHR_node_visibility", hidden_node, ALL_RED),
    Feature(
        "EXT_mesh_gpu_instancing",
        instances,
        {(-0.5, -0.5): "red", (0.5, 0.5): "red", (-0.5, 0.5): "none", (0.5, -0.5): "none"},
    ),
    Feature("16-bit grey texture", grey16, {(-0.5, 0.0): "black", (0.5, 0.0): "white"}),
    Feature("KHR_mesh_quantization", quantised, ALL_RED),
    Feature("EXT_meshopt_compression", packed_by_meshopt, ALL_RED),
    Feature("animated node with matrix", matrix_node, MOVED, 1.0),
    Feature("clip without a name", named(None), MOVED, 1.0),
    Feature("clip with an empty name", named(""), MOVED, 1.0),
    Feature("clip name of 76 bytes", named("A" * 76), MOVED, 1.0),
    Feature("clip name of 24 Chinese letters", named("动画" * 12), MOVED, 1.0),
    Feature("STEP key at float32 rounding", step_keys, MOVED, 8 / 24),
    Feature("two keys at one time", equal_keys, MOVED, 0.5),
    Feature("CUBICSPLINE", cubic_keys, {(-0.75, 0.0): "blue", (0.75, 0.0): "red"}, 0.75),
    Feature("skin", skinned(True), MOVED, 1.0),
    Feature("skin without inverse bind matrices", skinned(False), MOVED, 1.0),
    Feature("primitives with and without morphs", mixed_morphs, MOVED, 1.0),
    Feature("one bad clip", one_bad_clip, MOVED, 1.0),
)


def write(feature: Feature, folder: Path) -> Path:
    """The feature's file."""
    name = "".join(letter if letter.isalnum() else "_" for letter in feature.name)
    builder = feature.build()
    builder.document["extensionsUsed"] = sorted(_extensions(builder.document))
    return builder.write(folder / f"{name}.glb")


def _extensions(value: Any) -> set[str]:
    text = json.dumps(value)
    known = ("KHR_materials_unlit", "KHR_texture_transform", "KHR_node_visibility", "EXT_mesh_gpu_instancing")
    more = ("KHR_materials_emissive_strength", "KHR_materials_specular", "KHR_mesh_quantization")
    return {name for name in (*known, *more, "EXT_meshopt_compression") if name in text}
