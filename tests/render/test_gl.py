"""The GL engine: pixels where the camera module says, tiles apart, colours and alpha right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_gltf import FACES, OCTAHEDRON, Builder, octahedron

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.render_objaverse import gl as gl_module
from viewtime.render_objaverse.gl import GLRenderer, Light
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.orbits import dynamic_orbit, regular_views
from viewtime.render_objaverse.pose import pose_scene

SIZE = 128


def matrices(cameras: Cameras) -> np.ndarray:
    return cameras.camera_to_world().numpy()


def centroid(alpha: np.ndarray) -> np.ndarray:
    """(x, y) in pixels, pixel centres at halves."""
    rows, columns = np.mgrid[: len(alpha), : alpha.shape[1]] + 0.5
    weight = alpha.astype(np.float64)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def test_a_known_point_lands_on_the_pixel_that_the_cameras_say(tmp_path: Path, renderer: GLRenderer) -> None:
    scene = load_scene(octahedron(centre=(0.3, 0.25, -0.2), radius=0.03).write(tmp_path / "point.glb"))
    cameras = dynamic_orbit(7, 1, np.random.default_rng(3))
    images = renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)
    world = torch.tensor([[0.3, 0.2, 0.25]])  # glTF (x, y, z) is the world's (x, -z, y)
    expected, _ = cameras.project(world, SIZE, SIZE)
    for view in range(7):
        found = centroid(images[view, 0, ..., 3])
        assert np.abs(found - expected[view, 0, 0].numpy()).max() < 0.25


def test_depth_is_planar_and_normals_face_the_camera(tmp_path: Path, renderer: GLRenderer) -> None:
    scene = load_scene(octahedron(radius=0.5).write(tmp_path / "o.glb"))
    cameras = regular_views(1, 1, elevation=0.0)
    posed = pose_scene(scene, None, [0.0])
    depth, normals = renderer.draw_geometry(posed, matrices(cameras), cameras.fov_y)
    middle = SIZE // 2
    # The nearest corner points at the camera, half a unit before the origin.
    assert depth[0, 0, middle, middle] == pytest.approx(float(cameras.distance[0, 0]) - 0.5, abs=0.02)
    assert depth[0, 0, 0, 0] == 0
    inside = depth[0, 0] > 0
    np.testing.assert_allclose(np.linalg.norm(normals[0, 0][inside], axis=-1), 1, atol=1e-3)
    assert (normals[0, 0][inside][:, 1] < 0).all()  # azimuth 0 looks along +y


def test_a_view_does_not_depend_on_its_neighbours(
    tmp_path: Path, renderer: GLRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = octahedron(radius=0.4)
    builder.animate("clip", 0, "translation", [0, 1], np.array([[0, 0, 0], [0.3, 0, 0]]))
    scene = load_scene(builder.write(tmp_path / "o.glb"))
    cameras, times = dynamic_orbit(5, 4, np.random.default_rng(0)), np.linspace(0, 1, 4)
    whole = renderer.render(scene, "clip", times, matrices(cameras), cameras.fov_y)
    one = renderer.render(scene, "clip", times[2:3], matrices(cameras)[3:4, 2:3], cameras.fov_y)
    np.testing.assert_array_equal(whole[3, 2], one[0, 0])
    monkeypatch.setattr(gl_module, "ATLAS_SIDE", 2 * 2 * SIZE)  # many small atlases
    monkeypatch.setattr(gl_module, "CHUNK_INDICES", FACES.size)
    np.testing.assert_array_equal(renderer.render(scene, "clip", times, matrices(cameras), cameras.fov_y), whole)


def test_what_sticks_out_of_its_image_stays_out_of_the_next(tmp_path: Path, renderer: GLRenderer) -> None:
    builder = octahedron(radius=0.2)
    builder.animate("clip", 0, "translation", [0, 1], np.array([[0, 0, 0], [0.62, 0, 0]]))
    scene = load_scene(builder.write(tmp_path / "o.glb"))
    cameras = regular_views(1, 2, elevation=0.0)
    pair = Cameras(cameras.elevation.repeat(2, 1), torch.tensor([[0.0], [90.0]]).repeat(1, 2), cameras.distance)
    images = renderer.render(scene, "clip", [0.0, 1.0], matrices(pair), pair.fov_y)
    assert images[0, 1, :, -1, 3].max() == 255  # cut off at the right edge of view 0
    # View 1 sees the same motion end on: nothing may reach its left border.
    assert images[1, 1, :, :8, 3].max() == 0


def test_colours_are_srgb_and_alpha_is_straight(tmp_path: Path, renderer: GLRenderer) -> None:
    scene = load_scene(octahedron(radius=0.4, colour=(0.5, 0.2, 0.8), unlit=True).write(tmp_path / "o.glb"))
    cameras = regular_views(3, 1)
    images = renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)
    shown = images[images[..., 3] > 0]
    assert ((shown[:, 3] > 0) & (shown[:, 3] < 255)).any()  # there are edge pixels to get wrong
    # Linear 0.5, 0.2, 0.8 encoded; the same on edges, since alpha is not multiplied in.
    np.testing.assert_allclose(shown[:, :3], np.broadcast_to([188, 124, 231], shown[:, :3].shape), atol=3)
    assert (images[images[..., 3] == 0] == 0).all()


@pytest.mark.parametrize("supersample", [1, 2, 3, 4])
def test_a_pixel_belongs_to_the_silhouette_when_its_centre_does(tmp_path: Path, supersample: int) -> None:
    """An upright edge that runs through the middle half of a pixel column, on either side of its centre."""
    cameras = regular_views(1, 1, elevation=0.0)
    focal = float(cameras.intrinsics(32, 32)[0, 0, 0, 0])
    square = np.array([[0, 0, -0.2], [1, 0, -0.2], [1, 0, 0.2], [0, 0, 0.2]], np.float32)
    for column in (16.35, 16.65, 16.45, 16.55):
        edge = (column - 16) / focal * float(cameras.distance[0, 0])
        builder = Builder()
        points = np.stack([np.where(square[:, 0] > 0, edge, -0.2), square[:, 2], square[:, 1]], axis=1)
        builder.mesh(points, np.array([[0, 1, 2], [0, 2, 3]], np.uint16))
        builder.document["nodes"].append({"mesh": 0})
        scene = load_scene(builder.write(tmp_path / "square.glb"))
        with GLRenderer(32, supersample=supersample) as renderer:
            alpha = renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)[0, 0, 16, :, 3]
        assert alpha[15] == 255
        assert (alpha[16] > 127) == (column > 16.5)
        assert alpha[17] == 0


def test_parts_colours_and_light_do_what_they_say(tmp_path: Path, renderer: GLRenderer) -> None:
    builder = octahedron(centre=(-0.3, 0, 0), radius=0.15, colour=(0.5, 0.5, 0.5), unlit=True)
    builder.mesh(OCTAHEDRON * 0.15 + np.array([0.3, 0, 0]), FACES, {"pbrMetallicRoughness": {}})
    builder.document["nodes"].append({"mesh": 1, "name": "second"})
    builder.document["scenes"][0]["nodes"] = [0, 1]
    scene = load_scene(builder.write(tmp_path / "two.glb"))
    assert [part.name for part in scene.parts] == ["octahedron", "second"]
    cameras = regular_views(1, 1, elevation=0.0)

    def draw(**options) -> np.ndarray:
        return renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y, **options)[0, 0]

    both, left = draw(), draw(parts=[0])
    half = SIZE // 2
    assert both[:, half:, 3].any()
    assert not left[:, half:, 3].any()
    np.testing.assert_array_equal(left[:, :half], both[:, :half])
    red = draw(part_colours={0: (1.0, 0.0, 0.0)})
    assert red[:, :half, 1].max() == 0
    assert red[:, :half, 0].max() == both[:, :half, 0].max()
    swapped = draw(part_colours={0: (1.0, 0.0, 0.0)}, colour_matrix=np.eye(3)[[1, 2, 0]])
    assert swapped[:, :half, 2].max() == red[:, :half, 0].max()
    dark = draw(light=Light(intensity=0.0, ambient=(0, 0, 0), ground=(0, 0, 0)))
    assert dark[:, half:, :3].max() == 0  # lit part
    assert dark[:, :half, :3].max() == both[:, :half, :3].max()  # unlit part


def test_two_renderers_in_one_process_do_not_mix(tmp_path: Path, renderer: GLRenderer) -> None:
    scene = load_scene(octahedron(radius=0.4).write(tmp_path / "o.glb"))
    cameras = regular_views(2, 1)
    before = renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)
    with GLRenderer(32, supersample=1) as other:
        small = other.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)
        after = renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y)
        assert small.shape == (2, 1, 32, 32, 4)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before, renderer.render(scene, None, [0.0], matrices(cameras), cameras.fov_y))


def test_wrong_sizes_are_refused(tmp_path: Path, renderer: GLRenderer) -> None:
    scene = load_scene(octahedron().write(tmp_path / "o.glb"))
    with pytest.raises(UserError, match="2 times"):
        renderer.render(scene, None, [0.0, 1.0], matrices(regular_views(2, 1)), 30.0)
    with pytest.raises(UserError, match="image size 2 px"):
        GLRenderer(2)
