"""The animated GLB: valid by Khronos' own judge, and the same shapes and frames again in our reader and in Blender."""

import dataclasses
import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from node_modules_of_tests import node_module
from scenes import ball

from benchmarks.blender_import import imported_points
from viewtime.cameras import regular_orbit
from viewtime.recon.export.glb import write_glb
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface.atlas import unfolded
from viewtime.recon.surface.manifold import vertex_normals
from viewtime.recon.surface.silhouette import silhouettes
from viewtime.recon.surface.skinning import skin_mesh
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene

TOLERANCE = 2e-5  # world units


def swimming(frames=5):
    """An ellipsoid that bends from side to side and moves on."""
    mesh = ball(1)
    rest = mesh.positions[0] * [0.6, 1.4, 0.8]
    path = []
    for frame in range(frames):
        angle = 0.8 * np.sin(1.5 * frame) * rest[:, 1]
        turned = rest.copy()
        turned[:, 0] += angle * rest[:, 1]
        path.append(turned + np.array([0.0, -0.03, 0.02]) * frame)
    return dataclasses.replace(mesh, positions=np.stack(path).astype(np.float32))


@pytest.fixture(scope="module", params=["morphs", "skin", "textured"])
def written(request, tmp_path_factory):
    """(file, the mesh that it should play)."""
    mesh = swimming()
    if request.param == "textured":
        texture = unfolded(mesh, 64)
        mesh = dataclasses.replace(mesh, texture=dataclasses.replace(texture, picture=texture.picture + np.uint8(90)))
    path = tmp_path_factory.mktemp("glb") / f"{request.param}.glb"
    skin = skin_mesh(mesh, 20) if request.param == "skin" else None
    write_glb(mesh, path, skin)
    return path, mesh if skin is None else mesh.with_positions(skin.pose(mesh.positions[0].astype(np.float64)))


def seconds(mesh):
    return np.arange(len(mesh.positions)) / mesh.fps


def largest_gap(mesh, points):
    """Largest distance from each vertex of the mesh to the nearest point, over the frames."""
    from scipy.spatial import cKDTree

    return max(cKDTree(p).query(v)[0].max() for p, v in zip(points, mesh.positions))


def test_our_own_reader_finds_every_frame(written):
    path, mesh = written
    scene = load_scene(path)
    (clip,) = scene.clips
    assert clip.duration == pytest.approx(seconds(mesh)[-1], abs=1e-5)
    posed = pose_scene(scene, clip, seconds(mesh))
    assert largest_gap(mesh, posed.positions) < TOLERANCE


def parts_of(path):
    """(document, a function that reads an accessor as floats)."""
    data = path.read_bytes()
    size = int.from_bytes(data[12:16], "little")
    document, binary = json.loads(data[20 : 20 + size]), data[28 + size :]

    def read(number):
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        kind = {5126: "<f4", 5125: "<u4", 5123: "<u2", 5121: "u1"}[accessor["componentType"]]
        count = accessor["count"] * width
        return np.frombuffer(binary, kind, count, view["byteOffset"]).reshape(-1, width).astype(np.float64)

    return document, read


def test_normals_of_every_frame_are_in_the_file(written):
    path, mesh = written
    document, read = parts_of(path)
    (primitive,) = document["meshes"][0]["primitives"]
    first = read(primitive["attributes"]["NORMAL"])
    corner = np.arange(len(first)) if mesh.texture is None else mesh.texture.vertex
    expected = vertex_normals(mesh.positions, mesh.triangles)[:, corner]
    expected = np.stack([expected[..., 0], expected[..., 2], -expected[..., 1]], axis=-1)
    np.testing.assert_allclose(first, expected[0], atol=1e-3 if "skins" in document else 1e-6)
    for number, target in enumerate(primitive.get("targets", []), start=1):
        np.testing.assert_allclose(first + read(target["NORMAL"]), expected[number], atol=1e-6)
    assert ("targets" in primitive) != ("skins" in document)


def test_the_texture_is_in_the_file(written):
    path, mesh = written
    document, read = parts_of(path)
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    if mesh.texture is None:
        assert "COLOR_0" in attributes
        return
    assert "COLOR_0" not in attributes  # it would multiply the texture
    np.testing.assert_allclose(read(attributes["TEXCOORD_0"]), mesh.texture.uv, atol=1e-7)
    scene = load_scene(path)
    np.testing.assert_array_equal(scene.textures[0].pixels[..., :3], mesh.texture.picture)


def test_joints_form_one_tree_whose_bind_matrices_undo_the_first_frame(tmp_path):
    mesh = swimming()
    document, read = parts_of(write_glb(mesh, tmp_path / "a.glb", skin_mesh(mesh, 12)))
    (skin,) = document["skins"]
    parents = {child: number for number, node in enumerate(document["nodes"]) for child in node.get("children", [])}
    roots = [joint for joint in skin["joints"] if joint not in parents]
    assert roots == [skin["skeleton"]]
    assert sum(parent == skin["skeleton"] for parent in parents.values()) < 11  # not all on the root
    bind = read(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    for joint, matrix in zip(skin["joints"], bind):
        place = np.zeros(3)
        while joint is not None:
            node = document["nodes"][joint]
            np.testing.assert_allclose(node["rotation"], [0, 0, 0, 1], atol=1e-6)
            place, joint = place + node["translation"], parents.get(joint)
        np.testing.assert_allclose(matrix[:3, 3], -place, atol=1e-6)


def test_skin_is_smaller_and_near_the_mesh():
    mesh = swimming(9)
    skin = skin_mesh(mesh, 20)
    posed = skin.pose(mesh.positions[0].astype(np.float64))
    error = np.linalg.norm(posed - mesh.positions, axis=2)
    motion = np.linalg.norm(mesh.positions - mesh.positions[0], axis=2)
    np.testing.assert_allclose(posed[0], mesh.positions[0], atol=1e-6)
    assert error.mean() < 0.05 * motion.mean()
    np.testing.assert_allclose(skin.weight.sum(axis=1), 1, atol=1e-9)


def test_a_skinned_file_is_smaller(tmp_path):
    mesh = swimming(21)
    morphs = write_glb(mesh, tmp_path / "a.glb").stat().st_size
    assert write_glb(mesh, tmp_path / "b.glb", skin_mesh(mesh, 20)).stat().st_size < 0.6 * morphs


@pytest.fixture(scope="session")
def validator():
    """Folder of the npm module."""
    return node_module("gltf-validator", "2.0.0-dev.3.10")


def khronos(validator, path):
    script = Path(__file__).with_name("validate_glb.js")
    done = subprocess.run(["node", script, validator, path], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_khronos_finds_nothing_wrong(written, validator):
    issues = khronos(validator, written[0])
    assert issues["numErrors"] == 0, issues["messages"]
    assert issues["numWarnings"] == 0, issues["messages"]


def test_khronos_validator_notices_a_damaged_file(written, validator, tmp_path):
    data = bytearray(written[0].read_bytes())
    data = data.replace(b'"count":', b'"cuont":', 1)
    (tmp_path / "damaged.glb").write_bytes(data)
    assert khronos(validator, tmp_path / "damaged.glb")["numErrors"] > 0


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
def test_blender_shows_the_same_frames_and_silhouettes(written):
    path, mesh = written
    points, triangles = imported_points(path, 0, seconds(mesh))
    assert len(points) == len(mesh.positions)
    assert largest_gap(mesh, points) < TOLERANCE
    views = Viewpoints.of(regular_orbit(3, 1), 64, 64)
    for mine, theirs in zip(mesh.positions, points):
        ours, again = silhouettes(mine, mesh.triangles, views) > 0.5, silhouettes(theirs, triangles, views) > 0.5
        assert (ours & again).sum() / (ours | again).sum() > 0.999


def test_still_mesh_has_no_animation(tmp_path):
    path = write_glb(ball(1), tmp_path / "still.glb")
    assert load_scene(path).clips == []
    assert largest_gap(ball(1), pose_scene(load_scene(path), None, [0.0]).positions) < TOLERANCE
