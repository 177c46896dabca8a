"""Every row of the table engine × feature: the colours that each file must show, in both engines."""

from __future__ import annotations

import importlib.util
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from feature_files import COLOURS, FEATURES, Feature, base_texture, blob, quadrants, square, write
from feature_table import BEGIN, END, SIZE, agreement, by_cycles, by_gl, pose, wrong_places
from small_gltf import Builder

from viewtime.render_objaverse.blender import Blender
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.gltf_file import AssetError, Limits

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "rendering.md"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_gl_shows_what_the_file_says(feature: Feature, tmp_path: Path, renderer: GLRenderer) -> None:
    if "meshopt" in feature.name:
        pytest.importorskip("meshopt")
    assert wrong_places(feature, by_gl(renderer, pose(feature, write(feature, tmp_path)))) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
def test_cycles_shows_the_same(tmp_path: Path, renderer: GLRenderer) -> None:
    wrong = {}
    with Blender(threads=1) as blender:
        for number, feature in enumerate(FEATURES):
            posed = pose(feature, write(feature, tmp_path))
            traced = by_cycles(blender, posed, tmp_path / str(number))
            found = wrong_places(feature, traced)
            overlap, difference = agreement(by_gl(renderer, posed), traced)
            if overlap < 0.97 or difference > 4:
                found.append(f"engines differ: IoU {overlap:.3f}, colour {difference:.1f}")
            if found:
                wrong[feature.name] = found
    assert wrong == {}


def test_the_document_has_a_row_for_each_feature() -> None:
    rows = DOCUMENT.read_text().split(BEGIN)[1].split(END)[0].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [feature.name for feature in FEATURES]
    for row, feature in zip(rows, FEATURES):
        whole = f"{len(feature.facts)} of {len(feature.facts)}"
        assert [cell.strip() for cell in row.split("|")[2:4]] == [whole, whole]


def test_a_fact_can_be_contradicted(tmp_path: Path, renderer: GLRenderer) -> None:
    feature = FEATURES[0]
    image = by_gl(renderer, pose(feature, write(feature, tmp_path)))
    assert len(wrong_places(feature, np.roll(image, 1, axis=-1))) == 3  # white stays white
    assert len(wrong_places(feature, np.zeros_like(image))) == len(feature.facts)


def translucent(order: tuple[int, ...]) -> Builder:
    """Half-transparent squares in front of each other, red nearest, then green, then blue; any order in the file."""
    builder = Builder()
    for number in order:
        colour = [*COLOURS[("red", "green", "blue")[number]], 0.5]
        material = {
            "pbrMetallicRoughness": {"baseColorFactor": colour},
            "alphaMode": "BLEND",
            "extensions": {"KHR_materials_unlit": {}},
        }
        points = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) - [0, 0, 0.2 * number]
        square(builder, material, points=points.astype(np.float32))
    return builder


def test_translucent_layers_are_mixed_from_front_to_back_in_linear_light(tmp_path: Path, renderer: GLRenderer) -> None:
    """Over nothing: premultiplied red 1/2, green 1/4, blue 1/8, alpha 7/8."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        path = translucent(order).write(tmp_path / "layers.glb")
        image = by_gl(renderer, pose(Feature("layers", Builder, {}), path))
        seen = image[SIZE // 2, SIZE // 2] / 255
        straight = np.array([1 / 2, 1 / 4, 1 / 8]) / (7 / 8)
        encoded = np.where(straight <= 0.0031308, 12.92 * straight, 1.055 * straight ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(seen[:3], encoded, atol=0.02)
        assert seen[3] == pytest.approx(7 / 8, abs=0.01)


def changed(path: Path, edit) -> Path:
    builder = base_texture()
    edit(builder.document)
    return builder.write(path)


KTX = {"KHR_texture_basisu": {"source": 0}}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d["textures"].__setitem__(0, {"extensions": KTX}), "texture 0 is KTX2"),
        (lambda d: d["textures"].__setitem__(0, {}), "texture 0 names no image"),
        (lambda d: d["images"].__setitem__(0, {}), "image 0 has neither bytes nor a file"),
        (lambda d: d["bufferViews"][0].__setitem__("byteLength", 20), "cannot be decoded"),
    ],
)
def test_a_texture_that_cannot_be_shown_is_named(tmp_path: Path, edit, words: str) -> None:
    with pytest.raises(AssetError, match=words) as caught:
        load_scene(changed(tmp_path / "bad.glb", edit))
    assert caught.value.reason == "texture"


def test_a_ktx2_texture_with_another_image_shows_that_one(tmp_path: Path) -> None:
    path = changed(tmp_path / "two.glb", lambda d: d["textures"][0].update(extensions=KTX))
    assert load_scene(path).textures[0].pixels.shape == (2, 2, 4)


def test_many_textures_of_one_image_are_one_and_many_images_are_counted_together(tmp_path: Path) -> None:
    builder = Builder()
    from feature_files import image, paint

    for number in range(30):
        texture = image(builder, quadrants("red", "green", "blue", "white"))
        base = {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}}
        square(builder, paint("white") | base)
        if number:
            builder.document["textures"][number]["source"] = 0
            builder.document["textures"][number]["sampler"] = 0
    path = builder.write(tmp_path / "many.glb")
    assert len(load_scene(path).textures) == 1
    for number, texture in enumerate(builder.document["textures"]):
        texture["source"] = number
    path = builder.write(tmp_path / "each.glb")
    assert len(load_scene(path, Limits(all_texture_pixels=120)).textures) == 30
    with pytest.raises(AssetError, match="over 119 pixels together"):
        load_scene(path, Limits(all_texture_pixels=119))


def test_a_bad_clip_says_why_and_leaves_the_others(tmp_path: Path) -> None:
    (feature,) = (row for row in FEATURES if row.name == "one bad clip")
    scene = load_scene(write(feature, tmp_path))
    assert [clip.name for clip in scene.clips] == ["clip"]
    ((bad,)) = scene.bad_clips
    assert (bad.name, bad.reason) == ("bad", "key_times")
    assert "go back" in bad.message


def test_what_many_accessors_of_one_file_claim_is_counted_together(tmp_path: Path) -> None:
    builder = Builder()
    square(builder, {})
    for name in ("TEXCOORD_0", "TEXCOORD_1", "TEXCOORD_2"):
        # No bytes in the file stand behind these.
        builder.document["accessors"].append({"componentType": 5126, "count": 4, "type": "VEC2"})
        attributes = builder.document["meshes"][0]["primitives"][0]["attributes"]
        attributes[name] = len(builder.document["accessors"]) - 1
    path = builder.write(tmp_path / "claims.glb")
    load_scene(path, Limits(decoded_elements=12 + 6 + 24))
    with pytest.raises(AssetError) as caught:
        load_scene(path, Limits(decoded_elements=12 + 6 + 23))
    assert caught.value.reason == "too_large"


def test_unit_names_do_not_collide(tmp_path: Path) -> None:
    builder = Builder()
    node = square(builder, {})
    for name in ("A", "A.001", "A", ""):
        builder.animate(name, node, "translation", [0, 1], np.array([[0, 0, 0], [1, 0, 0]]))
    names = [clip.name for clip in load_scene(builder.write(tmp_path / "names.glb")).clips]
    assert names == ["A", "A.001", "A.002", "animation_3"]
    assert json.loads(json.dumps(names)) == names


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (8193, 8192), (60000, 2000)])
def test_an_image_that_claims_too_many_pixels_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    builder = base_texture()
    builder.document["images"][0]["bufferView"] = blob(builder, png)
    tracemalloc.start()
    with pytest.raises(AssetError) as caught:
        load_scene(builder.write(tmp_path / "bomb.glb"))
    assert caught.value.reason == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
