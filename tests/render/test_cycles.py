"""Blender against our own reader, engine and cameras, on real assets where there are any."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_gltf import moving, octahedron

from benchmarks.blender_import import imported_points
from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.render_objaverse.blender import Blender, BlenderError, CyclesQuality, choose_worlds, read_row
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.orbits import dynamic_orbit, with_distance
from viewtime.render_objaverse.pose import Placement, pose_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed"),
]
ASSETS = Path(os.environ.get("VIEWTIME_ASSETS", Path(__file__).parents[2] / ".." / "shared" / "assets"))
# Skins, rigid parts on bones, a texture, morph targets, vertex colours, Draco, NaN weights.
CHOSEN = (
    "q_animals__Stag",
    "khronos_Fox",
    "kaykit_Knight",
    "MorphStressTest",
    "q_tank__Tank",
    "q_ultimate_space__Mech_BarbaraTheBee",
    "q_easy_enemies__Wasp",
    "q_platformer_game__Crab",
)
SIZE = 128


@pytest.fixture(scope="module")
def blender() -> Iterator[Blender]:
    with Blender(threads=2) as made:
        yield made


def asset(name: str) -> Path:
    path = ASSETS / f"{name}.glb"
    if not path.is_file():
        pytest.skip(f"{name}.glb is not there; set VIEWTIME_ASSETS to the folder of test assets")
    return path


def cycles_alpha(
    blender: Blender, folder: Path, clip: str | None, times: np.ndarray, cameras: Cameras, placement: Placement
) -> np.ndarray:
    """uint8 [V, F, H, W]."""
    world = choose_worlds(blender, "studio")[0]
    quality = CyclesQuality(samples=16, denoise=False)
    blender.render(folder, clip, times, cameras, placement, SIZE, world, quality=quality)
    return np.stack([read_row(folder, view, len(times))[..., 3] for view in range(cameras.shape[0])])


def test_a_known_point_lands_on_the_same_pixel_in_blender_gl_and_cameras(tmp_path: Path, blender: Blender) -> None:
    path = octahedron(centre=(0.3, 0.25, -0.2), radius=0.03).write(tmp_path / "point.glb")
    cameras = dynamic_orbit(3, 1, np.random.default_rng(3))
    blender.open_posed(pose_scene(load_scene(path), None, np.zeros(1)))
    alpha = cycles_alpha(blender, tmp_path / "out", None, np.zeros(1), cameras, Placement())[:, 0]
    with GLRenderer(SIZE) as renderer:
        matrices = cameras.camera_to_world().numpy()
        drawn = renderer.render(load_scene(path), None, [0.0], matrices, cameras.fov_y)[:, 0, ..., 3]
    expected, _ = cameras.project(torch.tensor([[0.3, 0.2, 0.25]]), SIZE, SIZE)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    for view in range(3):
        for image in (alpha[view], drawn[view]):
            weight = image.astype(np.float64) / image.sum()
            found = np.array([(columns * weight).sum(), (rows * weight).sum()])
            assert np.abs(found - expected[view, 0, 0].numpy()).max() < 0.5


@pytest.mark.parametrize("name", CHOSEN)
def test_posed_vertices_and_silhouettes_agree(name: str, tmp_path: Path, blender: Blender) -> None:
    path = asset(name)
    scene = load_scene(path)
    clip = scene.clips[-1]
    times = clip.frame_times(4)[1:3]
    posed = pose_scene(scene, clip, times)
    placement = normalise(posed.positions)
    points, _ = imported_points(path, len(scene.clips) - 1, times)
    blender.open_posed(posed)
    # Between keys Blender interpolates quaternions by component, glTF on the sphere: 2e-4 for the fox's sparse keys.
    for end in (np.min, np.max):
        difference = end(posed.positions, axis=1) - end(points, axis=1)
        assert np.abs(difference).max() * placement.scale < 3e-4
    cameras = dynamic_orbit(3, 2, np.random.default_rng(1))
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    distance = camera_distance(placement.apply(posed.positions), turn, fit="projected")
    cameras = with_distance(cameras, distance)
    with GLRenderer(SIZE) as renderer:
        drawn = renderer.draw(posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement)
    ours = drawn[..., 3] > 127
    theirs = cycles_alpha(blender, tmp_path, clip.name, times, cameras, placement) > 127
    overlap = (ours & theirs).sum(axis=(2, 3)) / (ours | theirs).sum(axis=(2, 3))
    assert overlap.min() >= 0.98, f"{name}: {overlap}"


@pytest.mark.parametrize("distance", [0.25, 0.6, 4.0])
def test_the_crop_to_the_object_cuts_nothing_off(distance: float, tmp_path: Path, blender: Blender) -> None:
    # From inside the bounding box, with the object leaving the picture, and from afar.
    path = octahedron(centre=(0.1, 0.2, 0.0), radius=0.3).write(tmp_path / "near.glb")
    cameras = with_distance(dynamic_orbit(3, 1, np.random.default_rng(3)), distance)
    blender.open_posed(pose_scene(load_scene(path), None, np.zeros(1)))
    traced = cycles_alpha(blender, tmp_path / "out", None, np.zeros(1), cameras, Placement()) > 127
    with GLRenderer(SIZE) as renderer:
        drawn = renderer.render(load_scene(path), None, [0.0], cameras.camera_to_world().numpy(), cameras.fov_y)
    ours = drawn[..., 3] > 127
    assert (ours & traced).sum() / (ours | traced).sum() >= 0.98


def test_depth_and_normals_agree_with_gl(tmp_path: Path, blender: Blender) -> None:
    path = moving(tmp_path / "move.glb", shift=0.3)
    scene = load_scene(path)
    posed = pose_scene(scene, "Move", [0.5])
    blender.open_posed(posed)
    placement = normalise(posed.positions)
    cameras = dynamic_orbit(2, 1, np.random.default_rng(0))
    world = choose_worlds(blender, "studio")[0]
    blender.render(tmp_path, "Move", np.array([0.5]), cameras, placement, 64, world, depth=True, normals=True)
    with GLRenderer(64) as renderer:
        depth, normals = renderer.draw_geometry(
            posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement
        )
    theirs = np.load(tmp_path / "depth.npz")["depth"]
    their_normals = np.load(tmp_path / "normals.npz")["normals"].astype(np.float32)
    both = (depth > 0) & (theirs > 0)
    assert both.sum() > 0.95 * max((depth > 0).sum(), (theirs > 0).sum())
    # Cycles takes depth at a random place in the pixel and averages normals over it: edges may differ.
    error = np.abs(depth - theirs)[both]
    assert np.median(error) < 0.005
    assert np.quantile(error, 0.9) < 0.015
    cosine = (normals * their_normals).sum(axis=-1)[both]
    assert np.quantile(cosine, 0.1) > 0.99


def test_a_bad_file_leaves_the_process_alive_and_a_dead_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.blend").write_bytes(b"BLENDER-v405" + b"\0" * 40)
    good = pose_scene(load_scene(moving(tmp_path / "good.glb")), "Move", [0.0])
    with Blender() as blender:
        with pytest.raises(BlenderError) as caught:
            blender.open(tmp_path / "bad.blend")
        assert caught.value.reason == "blender"
        blender.open_posed(good)
        with pytest.raises(UserError, match="not posed at"):
            blender.render(
                tmp_path, None, np.ones(1), dynamic_orbit(1, 1, np.random.default_rng(0)), Placement(), 8, tmp_path
            )
        with pytest.raises(UserError, match="no world 'moon'"):
            choose_worlds(blender, "moon")
        blender._process.kill()
        with pytest.raises(BlenderError) as caught:
            blender.open(tmp_path / "other.blend")
        assert caught.value.reason == "crashed"
