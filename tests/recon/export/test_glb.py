"""The animated GLB: valid by Khronos' own judge, and the same shapes and frames again in our reader and in Blender."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scenes import ball

from benchmarks.blender_import import imported_points
from viewtime.cameras import regular_orbit
from viewtime.recon.export.glb import write_glb
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface.silhouette import silhouettes
from viewtime.recon.surface.skinning import skin_mesh
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene

TOLERANCE = 2e-5  # world units
VALIDATOR = "gltf-validator@2.0.0-dev.3.10"


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


@pytest.fixture(scope="module", params=["morphs", "skin"])
def written(request, tmp_path_factory):
    """(file, the mesh that it should play)."""
    mesh = swimming()
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
    """Folder of the npm module, fetched once into the user's cache."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not installed")
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "viewtime" / "node"
    module = base / "node_modules" / "gltf-validator"
    if not module.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(base), "--no-audit", "--no-fund", "--fetch-retries=0", VALIDATOR]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm could not fetch {VALIDATOR} within 60 s")
        if done.returncode:
            pytest.skip(f"npm could not fetch {VALIDATOR}: {done.stderr.strip()[-200:]}")
    return module


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
