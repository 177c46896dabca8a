"""CD-3D, CD-4D and CD-M against values known by geometry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from tests.render.small_gltf import moving
from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene
from viewtime.sample.metrics.action_bench import compare, pair_surfaces
from viewtime.sample.metrics.measures.chamfer import chamfer, motion_chamfer
from viewtime.sample.metrics.measures.registration import (
    align,
    axis_rotations,
    neighbours_by_matrix,
    neighbours_by_tree,
    squared_chamfer,
)
from viewtime.sample.metrics.surfaces import MovingSurface, read_surface


def sphere(count: int, radius: float = 1.0, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((count, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def stair() -> trimesh.Trimesh:
    """Three boxes of unequal sizes: no turn maps it onto itself."""
    parts = [
        trimesh.creation.box(extents=size, transform=trimesh.transformations.translation_matrix(place))
        for size, place in (
            ((2, 0.6, 0.4), (0, 0, 0)),
            ((0.4, 1.0, 0.3), (0.8, 0.8, 0)),
            ((0.3, 0.3, 0.9), (-0.8, 0, 0.6)),
        )
    ]
    joined = trimesh.util.concatenate(parts)
    assert isinstance(joined, trimesh.Trimesh)
    return joined


def turning(degrees: float, instants: int = 3) -> MovingSurface:
    """The stair that turns by `degrees` from one instant to the next."""
    mesh = stair()
    turns = [Rotation.from_euler("z", degrees * index, degrees=True) for index in range(instants)]
    vertices = [turn.apply(np.asarray(mesh.vertices)) / 1.5 for turn in turns]
    return MovingSurface(vertices, [np.asarray(mesh.faces)] * instants)


def test_spheres_one_in_the_other_are_two_gaps_apart():
    inner, outer = sphere(40_000), sphere(40_000, 1.25, seed=1)
    assert chamfer(inner, outer, queries=2_000) == pytest.approx(0.5, abs=2e-3)


def test_spheres_far_apart_have_the_distance_by_integration():
    """Nearest to a point p outside a sphere of radius 1 is |p| - 1 away; the mean of |p| on a sphere of radius 1
    about a centre at distance d is d + 1 / (3 d)."""
    away = sphere(10_000, seed=1) + np.array([5.0, 0.0, 0.0])
    expected = 2 * (5 + 1 / 15 - 1)
    assert chamfer(sphere(10_000), away, queries=4_000) == pytest.approx(expected, abs=3e-2)


def test_tracks_that_are_exchanged_count_in_motion_alone():
    """A cube that turns by a quarter: its corners as a set stand still, their tracks do not."""
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T.astype(float)
    quarter = Rotation.from_euler("z", 90, degrees=True)
    still, turned = np.stack([corners, corners]), np.stack([corners, quarter.apply(corners)])
    assert np.mean([chamfer(a, b) for a, b in zip(turned, still, strict=True)]) == pytest.approx(0, abs=1e-9)
    # Each corner ends one edge, 2, from where its partner stays: mean over two instants 1, both ways 2.
    assert motion_chamfer(turned, still) == pytest.approx(2.0)
    # Partners are those of the first instant: two of three instants without distance, then 2, both ways.
    late = np.stack([corners, corners, quarter.apply(corners)])
    assert motion_chamfer(late, np.stack([corners] * 3)) == pytest.approx(4 / 3)
    order = np.random.default_rng(0).permutation(8)
    assert motion_chamfer(turned[:, order], turned) == pytest.approx(0, abs=1e-9)


def test_the_starts_are_the_24_turns_of_a_cube():
    turns = axis_rotations()
    assert turns.shape == (24, 3, 3)
    assert torch.equal(turns[0], torch.eye(3))
    assert len(torch.unique(turns, dim=0)) == 24
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(24, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(24))


def test_alignment_finds_turn_scale_and_shift():
    moved = turning(0, 1).points(100, seed=0)[0]
    turn = Rotation.from_euler("zyx", (170, 5, -88), degrees=True).as_matrix()
    fixed = (moved * (1.1, 0.9, 1.05)) @ turn + (0.2, -0.1, 0.15)
    found = align(moved, fixed, iterations=80)
    assert np.abs(found.apply(moved) - fixed).max() < 0.03
    np.testing.assert_allclose(found.shift, (0.2, -0.1, 0.15), atol=0.03)


def test_neighbours_by_tree_and_by_matrix_are_the_same_and_so_are_gradients():
    placed = torch.tensor(np.stack([sphere(300, seed=2), sphere(300, seed=4)]), dtype=torch.float32, requires_grad=True)
    target = torch.tensor(sphere(200, 1.1, seed=3), dtype=torch.float32)
    found = [find(placed.detach(), target) for find in (neighbours_by_tree, neighbours_by_matrix)]
    losses = [squared_chamfer(placed, target, pairs) for pairs in found]
    assert losses[0].shape == (2,)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), placed)[0] for loss in losses))
    # Slowly and by hand, of one cloud.
    apart = np.linalg.norm(placed.detach().numpy()[1][:, None] - target.numpy()[None], axis=-1)
    expected = (apart.min(axis=0) ** 2).mean() + (apart.min(axis=1) ** 2).mean()
    assert losses[0][1].item() == pytest.approx(expected, rel=1e-5)


def test_a_wrong_speed_shows_in_4d_and_motion_but_not_in_3d():
    truth = turning(20, 2)
    right, slow = (compare(turning(angle, 2), truth, 4_000, 200, iterations=40) for angle in (20, 0))
    assert right["cd_3d"] < 0.06
    assert right["cd_4d"] < 0.06
    assert right["cd_m"] < 0.08
    assert slow["cd_4d"] > right["cd_4d"] + 0.03
    assert slow["cd_m"] > right["cd_m"] + 0.08
    assert slow["cd_3d"] < slow["cd_4d"] - 0.02


def test_one_command_on_the_published_layout(tmp_path: Path):
    """predictions/UID/mesh_00.glb … against data/UID/surfaces.npy [T, N, 6]."""
    truth = turning(15, 1)
    for uid in ("aa", "bb"):
        (tmp_path / "data" / uid).mkdir(parents=True)
        (tmp_path / "made" / uid).mkdir(parents=True)
        points = truth.tracks(500, seed=5)
        np.save(tmp_path / "data" / uid / "surfaces.npy", np.concatenate([points, points], axis=-1).astype(np.float32))
        for instant, vertices in enumerate(truth.vertices):
            mesh = trimesh.Trimesh(vertices, stair().faces, process=False)
            mesh.export(tmp_path / "made" / uid / f"mesh_{instant:02d}.glb")
    arguments = [
        "--mesh",
        str(tmp_path / "made"),
        "--mesh-truth",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["evaluate", *arguments, "--mesh-points", "500", "--mesh-align-points", "20"]) == 0
    found = json.loads((tmp_path / "out" / "mesh.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["CD-3D", "CD-4D", "CD-M"]
    assert all(0 < row["value"] < 0.5 and "500 points" in row["protocol"] for row in found["rows"])
    assert [pair["name"] for pair in found["pairs"]] == ["aa", "bb"]


def test_meshes_of_changing_triangles_have_no_motion():
    first = turning(0, 2)
    assert first.triangles is not None
    changed = MovingSurface(first.vertices, [first.triangles[0], first.triangles[0][::-1]])
    assert not changed.tracked
    found = compare(changed, first, 100, 20, iterations=2)
    assert np.isnan(found["cd_m"])
    assert np.isfinite(found["cd_4d"])


def test_what_does_not_pair_is_named(tmp_path: Path):
    (tmp_path / "a" / "one").mkdir(parents=True)
    (tmp_path / "b" / "two").mkdir(parents=True)
    with pytest.raises(UserError, match="one side only: one, two"):
        pair_surfaces([tmp_path / "a"], [tmp_path / "b"])
    np.save(tmp_path / "points.npy", np.zeros((3, 5)))
    with pytest.raises(UserError, match=r"shape \[3, 5\]"):
        read_surface(tmp_path / "points.npy", 3)
    with pytest.raises(UserError, match="0 meshes, of 3 instants"):
        read_surface(tmp_path / "a" / "one", 3)
    assert main(["evaluate", "--mesh", str(tmp_path / "a")]) == 1


def test_points_that_are_none_are_refused(tmp_path: Path):
    def refused(array, words: str) -> None:
        np.save(tmp_path / "points.npy", array)
        with pytest.raises(UserError, match=words):
            read_surface(tmp_path / "points.npy", len(array)).in_unit_cube()

    refused(np.ones((2, 5, 3)), "at one place at all times")
    refused(np.ones((2, 5, 3)) * 1j, "numbers of complex128; points are")
    refused(np.full((2, 5, 3), "a"), "numbers of <U1; points are")
    refused(np.full((2, 5, 3), 1e20), "coordinate of 1e\\+20; up to 1e\\+06")
    np.savez(tmp_path / "several.npz", a=np.ones(3))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    with pytest.raises(UserError, match="holds several arrays"):
        read_surface(tmp_path / "several.npy", 2)


def test_an_animated_glb_is_asked_at_even_moments_and_put_into_the_cube(tmp_path: Path):
    """Against the positions that the engine poses, turned and scaled as one."""
    path = moving(tmp_path / "moving.glb")
    scene = load_scene(path)
    posed = pose_scene(scene, scene.clips[0], scene.clips[0].frame_times(5)).positions
    surface = read_surface(path, 5)
    assert surface.tracked
    np.testing.assert_allclose(np.stack(surface.vertices), posed, atol=1e-6)
    assert np.abs(surface.vertices[0] - surface.vertices[-1]).max() > 0.01
    cube = np.stack(surface.in_unit_cube().vertices)
    low, high = cube.min(axis=(0, 1)), cube.max(axis=(0, 1))
    np.testing.assert_allclose(low, -high, atol=1e-6)
    assert high.max() == pytest.approx(1.0)
    drawn = surface.points(50, seed=0)
    assert drawn.shape == (5, 50, 3)
    assert surface.tracks(50, seed=0)[0] == pytest.approx(drawn[0])
