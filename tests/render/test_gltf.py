"""The glTF reader and posing: interpolation by formula, skinning against a plain loop, damage by its reason."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from small_gltf import FACES, OCTAHEDRON, Builder, moving, octahedron

from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.gltf_file import AssetError, Limits
from viewtime.render_objaverse.pose import cofactor, pose_scene, world_matrices


def translations(scene: Scene, times: list[float]) -> np.ndarray:
    """World x of node 0 at some times; x is the same axis in glTF and Blender."""
    return world_matrices(scene, scene.clips[0], np.array(times))[0, :, 0, 3]


def test_step_holds_and_linear_interpolates(tmp_path: Path) -> None:
    values = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0]])
    for kind, expected in (("STEP", [0, 0, 1, 1, 5, 5]), ("LINEAR", [0, 0.5, 1, 3, 5, 5])):
        builder = octahedron()
        builder.animate("clip", 0, "translation", [0, 1, 2], values, kind)
        scene = load_scene(builder.write(tmp_path / f"{kind}.glb"))
        np.testing.assert_allclose(translations(scene, [0, 0.5, 1, 1.5, 2, 9]), expected, atol=1e-6)


def test_cubic_spline_reproduces_a_cubic(tmp_path: Path) -> None:
    # Hermite interpolation is exact for a cubic, if the tangents are scaled by the interval (here 2 s).
    def f(t: np.ndarray) -> np.ndarray:
        return 0.3 * t**3 - t**2 + 0.5 * t + 2

    def slope(t: np.ndarray) -> np.ndarray:
        return 0.9 * t**2 - 2 * t + 0.5

    keys = np.array([0.0, 2.0, 3.0])
    rows = [[[slope(t), 0, 0], [f(t), 0, 0], [slope(t), 0, 0]] for t in keys]
    builder = octahedron()
    builder.animate("clip", 0, "translation", keys, np.array(rows).reshape(-1, 3), "CUBICSPLINE")
    scene = load_scene(builder.write(tmp_path / "cubic.glb"))
    times = np.linspace(0, 3, 13)
    np.testing.assert_allclose(translations(scene, list(times)), f(times), atol=1e-5)


def test_rotations_turn_at_constant_speed_along_the_shorter_arc(tmp_path: Path) -> None:
    half = np.radians(150) / 2
    quaternions = np.array([[0, 0, 0, 1], [0, -np.sin(half), 0, -np.cos(half)]])  # the sign must not matter
    builder = octahedron()
    builder.animate("clip", 0, "rotation", [0, 1], quaternions)
    scene = load_scene(builder.write(tmp_path / "turn.glb"))
    matrices = world_matrices(scene, scene.clips[0], np.array([0.0, 0.25, 0.5, 1.0]))[0]
    # About glTF's y, which is the world's z: x axis to (cos, sin).
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    np.testing.assert_allclose(angles, [0, 37.5, 75, 150], atol=1e-3)


def skinned(tmp_path: Path, weights: np.ndarray) -> Scene:
    """An octahedron on two joints, the second a child of the first, scaled unevenly and turning."""
    builder = octahedron()
    document = builder.document
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = builder.add(np.tile(np.array([[0, 1, 0, 0]], np.uint8), (6, 1)))
    attributes["WEIGHTS_0"] = builder.add(weights.astype(np.float32))
    attributes["NORMAL"] = builder.add(OCTAHEDRON)
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[1, :3, 3] = [0.0, -0.3, 0.0]
    document["skins"] = [
        {"joints": [1, 2], "inverseBindMatrices": builder.add(inverse.transpose(0, 2, 1).reshape(2, 16))}
    ]
    document["nodes"][0]["skin"] = 0
    document["nodes"] += [
        {"name": "root", "children": [2], "translation": [0.1, 0.2, 0.3]},
        {"name": "tip", "translation": [0, 0.3, 0], "scale": [1, 2, 0.5]},
    ]
    document["scenes"][0]["nodes"] = [0, 1]
    half = np.radians(60) / 2
    builder.animate("clip", 2, "rotation", [0, 1], np.array([[0, 0, 0, 1], [np.sin(half), 0, 0, np.cos(half)]]))
    return load_scene(builder.write(tmp_path / "skinned.glb"))


def test_skinning_equals_the_formula_vertex_by_vertex(tmp_path: Path) -> None:
    weights = np.array([[w, 1 - w, 0, 0] for w in (0, 0.2, 0.4, 0.6, 0.8, 1)])
    scene = skinned(tmp_path, weights)
    times = np.array([0.0, 0.4, 1.0])
    posed = pose_scene(scene, "clip", times)
    nodes = world_matrices(scene, scene.clips[0], times)
    skin, part = scene.skins[0], scene.parts[0]
    for frame in range(3):
        for vertex in range(6):
            point, normal = np.zeros(3), np.zeros(3)
            for joint in range(2):
                matrix = nodes[skin.joints[joint], frame] @ skin.inverse_bind[joint]
                point += weights[vertex, joint] * (matrix @ [*part.positions[vertex], 1.0])[:3]
                turn = np.linalg.det(matrix[:3, :3]) * np.linalg.inv(matrix[:3, :3]).T
                normal += weights[vertex, joint] * (turn @ part.normals[vertex])
            np.testing.assert_allclose(posed.positions[frame, vertex], point, atol=1e-6)
            np.testing.assert_allclose(posed.normals[frame, vertex], normal / np.linalg.norm(normal), atol=1e-5)


def test_nan_weights_count_as_zero_and_do_not_spread(tmp_path: Path) -> None:
    weights = np.tile([[0.5, 0.5, 0.0, 0.0]], (6, 1))
    weights[2] = np.nan
    weights[3] = [np.nan, 1.0, 0.0, 0.0]
    scene = skinned(tmp_path, weights)
    np.testing.assert_array_equal(scene.parts[0].weights[2], 0)
    np.testing.assert_array_equal(scene.parts[0].weights[3], [0, 1, 0, 0])
    posed = pose_scene(scene, "clip", [0.0, 1.0])
    # As in Blender: a vertex without any weight lies at the origin.
    np.testing.assert_array_equal(posed.positions[:, 2], 0)
    assert np.isfinite(posed.normals).all()


def test_node_scale_changes_a_bone_and_its_children_only(tmp_path: Path) -> None:
    weights = np.array([[1, 0, 0, 0]] * 3 + [[0, 1, 0, 0]] * 3)
    scene = skinned(tmp_path, weights)
    plain = pose_scene(scene, "clip", [0.5]).positions[0]
    scaled = pose_scene(scene, "clip", [0.5], node_scale={2: 3.0}).positions[0]
    np.testing.assert_allclose(scaled[:3], plain[:3])
    origin = world_matrices(scene, scene.clips[0], np.array([0.5]))[2, 0, :3, 3]
    # The tip's own origin stays; what hangs on it is three times as far away.
    np.testing.assert_allclose(scaled[3:] - origin, 3 * (plain[3:] - origin), atol=1e-5)


def test_morph_targets_add_up(tmp_path: Path) -> None:
    builder = octahedron()
    first, second = np.full((6, 3), [1.0, 0, 0], np.float32), np.full((6, 3), [0, 2.0, 0], np.float32)
    primitive = builder.document["meshes"][0]["primitives"][0]
    primitive["targets"] = [{"POSITION": builder.add(first)}, {"POSITION": builder.add(second)}]
    builder.document["meshes"][0]["weights"] = [0.0, 0.25]
    builder.animate("clip", 0, "weights", [0, 1], np.array([[0.0], [0.5], [1.0], [0.0]]))
    scene = load_scene(builder.write(tmp_path / "morph.glb"))
    rest, start, end = (
        pose_scene(scene, clip, [t]).positions[0] for clip, t in ((None, 0), ("clip", 0.0), ("clip", 1.0))
    )
    base = rest - np.array([0, 0, 0.5])  # glTF's y is the world's z
    np.testing.assert_allclose(start - base, np.broadcast_to([0, 0, 1.0], (len(base), 3)), atol=1e-6)
    np.testing.assert_allclose(end - base, np.broadcast_to([1.0, 0, 0], (len(base), 3)), atol=1e-6)


@pytest.mark.parametrize("scale", [[1, 1, 1], [-1, 1, 1], [-1, -2, 1], [-0.5, -3, -1]])
@pytest.mark.parametrize("skinned", [False, True])
def test_normals_face_out_on_a_mirrored_node_too(tmp_path: Path, scale: list[float], skinned: bool) -> None:
    builder = octahedron()
    if skinned:
        joints = builder.add(np.zeros((len(OCTAHEDRON), 4), np.uint8))
        weights = builder.add(np.repeat(np.array([[1, 0, 0, 0]], np.float32), len(OCTAHEDRON), axis=0))
        builder.document["meshes"][0]["primitives"][0]["attributes"] |= {"JOINTS_0": joints, "WEIGHTS_0": weights}
        builder.document["nodes"].append({"name": "joint", "scale": scale})
        builder.document["nodes"][0]["skin"] = 0
        builder.document["skins"] = [{"joints": [1]}]
    else:
        builder.document["nodes"][0]["scale"] = scale
    posed = pose_scene(load_scene(builder.write(tmp_path / "mirror.glb")), None, [0.0])
    a, b, c = (posed.positions[0][posed.outward(0)[:, corner]] for corner in range(3))
    face = np.cross(b - a, c - a)
    assert ((a + b + c) * face).sum(axis=1).min() > 0  # the winding faces out, about the origin
    out = (posed.normals[0][posed.outward(0)] * face[:, None]).sum(axis=2)
    np.testing.assert_allclose(out, np.repeat(np.linalg.norm(face, axis=1)[:, None], 3, axis=1), rtol=1e-4)


def test_cofactor_is_the_scaled_inverse_transpose() -> None:
    matrices = np.random.default_rng(0).normal(size=(5, 3, 3))
    expected = np.linalg.det(matrices)[:, None, None] * np.linalg.inv(matrices).transpose(0, 2, 1)
    np.testing.assert_allclose(cofactor(matrices), expected, atol=1e-9)


def test_missing_normals_become_face_normals(tmp_path: Path) -> None:
    part = load_scene(octahedron().write(tmp_path / "plain.glb")).parts[0]
    assert len(part.positions) == 3 * len(FACES)
    np.testing.assert_allclose(np.abs(part.normals), 3**-0.5, atol=1e-6)
    outwards = np.sum(part.normals * part.positions, axis=1)
    assert (outwards > 0).all()


def broken(kind: str, path: Path) -> Path:
    """A file with one planted fault."""
    builder = octahedron()
    builder.animate("clip", 0, "translation", [0, 1], np.zeros((2, 3)))
    document = builder.document
    if kind == "nan":
        document["accessors"][0]["bufferView"] = 0
        builder.binary = np.array([np.nan], np.float32).tobytes() + builder.binary[4:]
    elif kind == "huge":
        document["accessors"][0]["count"] = 2**30
    elif kind == "huge zeros":
        document["accessors"][0] = {"componentType": 5126, "count": 2**30, "type": "VEC3"}
    elif kind == "index":
        builder.binary = builder.binary.replace(FACES.tobytes(), (FACES + 5).tobytes())
    elif kind == "cycle":
        document["nodes"] += [{"children": [2]}, {"children": [1]}]
    elif kind == "two parents":
        document["nodes"] += [{"children": [3]}, {"children": [3]}, {}]
    elif kind == "late key":
        document["animations"] = []
        builder.animate("clip", 0, "translation", [0, 1e7], np.zeros((2, 3)))
    elif kind == "keys back":
        document["animations"] = []
        builder.animate("clip", 0, "translation", [1, 0], np.zeros((2, 3)))
    elif kind == "wrong type":
        document["meshes"][0]["primitives"] = 7
    elif kind == "extension":
        document["extensionsRequired"] = ["EXT_not_read"]
    elif kind == "uri":
        document["images"] = [{"uri": "../../etc/passwd"}]
        document["textures"] = [{"source": 0}]
        document["materials"][0] = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    elif kind == "no mesh":
        del document["nodes"][0]["mesh"]
    builder.write(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "deep":
        path.write_text("[" * 200_000)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "non_finite"),
        ("huge", "accessor"),
        ("huge zeros", "accessor"),
        ("index", "accessor"),
        ("cycle", "node_cycle"),
        ("two parents", "node_cycle"),
        ("late key", "key_times"),
        ("keys back", "key_times"),
        ("wrong type", "bad_structure"),
        ("extension", "unsupported"),
        ("uri", "bad_structure"),
        ("no mesh", "no_geometry"),
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("text", "bad_json"),
        ("deep", "bad_json"),
    ],
)
def test_damage_is_named(tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(AssetError) as caught:
        load_scene(broken(kind, tmp_path / "bad.glb"))
    assert caught.value.reason == reason
    assert "bad.glb" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, str(copy)) == (reason, str(caught.value))


def test_the_same_file_without_the_fault_loads(tmp_path: Path) -> None:
    assert load_scene(broken("none", tmp_path / "good.glb")).triangles == len(FACES)


def test_limits_bound_what_one_accessor_shared_by_many_parts_can_claim(tmp_path: Path) -> None:
    builder = octahedron()
    builder.document["nodes"] += [{"mesh": 0} for _ in range(400)]
    builder.document["scenes"][0]["nodes"] = list(range(401))
    path = builder.write(tmp_path / "many.glb")
    assert load_scene(path).triangles == 401 * len(FACES)
    started = time.process_time()
    with pytest.raises(AssetError, match="over 1,000 vertices"):
        load_scene(path, Limits(vertices=1000))
    assert time.process_time() - started < 30


def test_clip_is_found_by_name_index_and_refused_with_the_names(tmp_path: Path) -> None:
    scene = load_scene(moving(tmp_path / "two.glb", clips=("Walk", "Walk")))
    assert [clip.name for clip in scene.clips] == ["Walk", "Walk.001"]
    assert scene.clip(1) is scene.clip("Walk.001")
    with pytest.raises(AssetError, match=r"no clip 'Run'; it has: Walk, Walk\.001"):
        scene.clip("Run")


def test_buffers_may_be_data_uris_and_neighbouring_files(tmp_path: Path) -> None:
    builder = octahedron()
    builder.write(tmp_path / "whole.glb")
    expected = load_scene(tmp_path / "whole.glb").parts[0].positions
    (tmp_path / "data.bin").write_bytes(builder.binary)
    builder.document["buffers"] = [{"byteLength": len(builder.binary), "uri": "data.bin"}]
    (tmp_path / "split.gltf").write_text(json.dumps(builder.document))
    np.testing.assert_array_equal(load_scene(tmp_path / "split.gltf").parts[0].positions, expected)


def test_points_and_lines_are_passed_over(tmp_path: Path) -> None:
    builder = Builder()
    builder.mesh(OCTAHEDRON, FACES)
    builder.document["meshes"][0]["primitives"][0]["mode"] = 1
    builder.document["nodes"].append({"mesh": 0})
    with pytest.raises(AssetError) as caught:
        load_scene(builder.write(tmp_path / "lines.glb"))
    assert caught.value.reason == "no_geometry"
