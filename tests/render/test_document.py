"""What is rewritten in a document before it is read: matrices, instances, what may move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_gltf import octahedron

from viewtime.render_objaverse.document import decompose
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.gltf_file import AssetError, Limits
from viewtime.render_objaverse.pose import compose, pose_scene


def test_a_decomposed_matrix_composes_again() -> None:
    generator = np.random.default_rng(0)
    for sign in (1, -1):
        for _ in range(20):
            rotation = generator.normal(size=4)
            scale = generator.uniform(0.2, 3, size=3) * [sign, 1, 1]
            matrix = compose(generator.normal(size=3), rotation / np.linalg.norm(rotation), scale)
            parts = decompose(matrix.astype(np.float64))
            again = compose(parts["translation"], parts["rotation"], parts["scale"])
            np.testing.assert_allclose(again, matrix, atol=2e-5)
            assert np.sign(parts["scale"]).prod() == sign


def test_half_turns_have_their_axis() -> None:
    for axis in np.eye(3):
        parts = decompose(np.block([[2 * np.outer(axis, axis) - np.eye(3), np.zeros((3, 1))], [np.zeros(3), 1]]))
        np.testing.assert_allclose(np.abs(parts["rotation"]), [*axis, 0], atol=1e-9)


def test_instances_stand_where_their_attributes_say_and_move_with_their_node(tmp_path: Path) -> None:
    builder = octahedron(radius=0.1)
    places = builder.add(np.array([[1, 0, 0], [0, 2, 0]], np.float32))
    turn = builder.add(np.array([[0, 0, 0, 1], [0, 0, 2**-0.5, 2**-0.5]], np.float32))
    attributes = {"TRANSLATION": places, "ROTATION": turn}
    builder.document["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    builder.animate("clip", 0, "translation", [0, 1], np.array([[0, 0, 0], [5, 0, 0]]))
    path = builder.write(tmp_path / "two.glb")
    scene = load_scene(path)
    posed = pose_scene(scene, "clip", [0.0, 1.0])
    centres = posed.positions.reshape(2, 2, -1, 3).mean(axis=2)
    np.testing.assert_allclose(centres[0], [[1, 0, 0], [0, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(centres[1], [[6, 0, 0], [5, 0, 2]], atol=1e-6)
    with pytest.raises(AssetError) as caught:
        load_scene(path, Limits(nodes=2))
    assert caught.value.reason == "too_large"


def test_instances_with_attributes_of_two_lengths_are_refused(tmp_path: Path) -> None:
    builder = octahedron(radius=0.1)
    places, sizes = builder.add(np.zeros((2, 3), np.float32)), builder.add(np.ones((3, 3), np.float32))
    attributes = {"TRANSLATION": places, "SCALE": sizes}
    builder.document["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    with pytest.raises(AssetError, match=r"\[2, 3\] entries"):
        load_scene(builder.write(tmp_path / "bad.glb"))


def test_a_morph_plays_in_every_instance(tmp_path: Path) -> None:
    builder = octahedron(radius=0.1)
    primitive = builder.document["meshes"][0]["primitives"][0]
    primitive["targets"] = [{"POSITION": builder.add(np.full((6, 3), [0, 1.0, 0], np.float32))}]
    places = builder.add(np.array([[0, 0, 0], [3, 0, 0]], np.float32))
    builder.document["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}}
    builder.animate("clip", 0, "weights", [0, 1], np.array([[0.0], [1.0]]))
    posed = pose_scene(load_scene(builder.write(tmp_path / "morph.glb")), "clip", [0.0, 1.0])
    moved = (posed.positions[1] - posed.positions[0]).reshape(2, -1, 3)
    np.testing.assert_allclose(moved, np.broadcast_to([0, 0, 1.0], moved.shape), atol=1e-6)
