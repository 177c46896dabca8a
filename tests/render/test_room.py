"""A room around an asset: it stands still, shows parallax and hides nothing of the asset."""

import numpy as np
import pytest
import torch
from small_gltf import octahedron

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.schema.data import OnTheFly
from viewtime.data.live.scene_renderer import SceneRenderer, middle_azimuth
from viewtime.errors import UserError
from viewtime.render_objaverse.framing import normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene
from viewtime.render_objaverse.room import WALL, furnished


@pytest.fixture
def scene(tmp_path):
    builder = octahedron(radius=0.4)
    builder.animate("clip", 0, "translation", [0, 1], np.array([[0, 0, 0], [0.3, 0, 0]]))
    return load_scene(builder.write(tmp_path / "o.glb"))


def test_the_room_stands_still_behind_an_asset_that_is_as_before(scene):
    posed = pose_scene(scene, "clip", [0.0, 1.0])
    placement = normalise(posed.positions)
    whole = furnished(posed, placement, np.random.default_rng(0))
    count = posed.positions.shape[1]
    np.testing.assert_array_equal(whole.positions[:, :count], posed.positions)
    np.testing.assert_array_equal(whole.positions[0, count:], whole.positions[1, count:])
    room = placement.apply(whole.positions[0, count:])
    assert room[:, 1].max() == pytest.approx(WALL, abs=1e-4)
    assert room[:, 2].min() == pytest.approx(placement.apply(posed.positions)[..., 2].min(), abs=1e-4)
    inside = np.linalg.norm(room[:, :2], axis=1) < 0.5
    assert room[inside, 2].max() == pytest.approx(room[:, 2].min(), abs=1e-4)  # only floor under the asset
    assert len(scene.parts) + 1 == len(whole.scene.parts)


@pytest.mark.parametrize("azimuth", [0.0, 130.0])
def test_depth_from_the_front_is_that_of_the_wall(scene, azimuth):
    posed = pose_scene(scene, "clip", [0.0])
    placement = normalise(posed.positions)
    whole = furnished(posed, placement, np.random.default_rng(1), azimuth)
    cameras = regular_orbit(1, 1, elevation=0.0, azimuth_start=azimuth)
    with GLRenderer((48, 72)) as engine:
        depth, _ = engine.draw_geometry(whole, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement)
        alone, _ = engine.draw_geometry(posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=placement)
    depth, alone = depth[0, 0], alone[0, 0]
    assert (depth > 0).all()  # nothing is open to the front
    np.testing.assert_allclose(depth[alone > 0], alone[alone > 0], atol=1e-4)  # no box before the asset
    assert depth[:4].max() == pytest.approx(2 + WALL, abs=1e-3)


def test_a_still_grid_in_a_room_moves_with_the_camera_alone(scene):
    options = OnTheFly(azimuth="arc", arc_min=5, arc_max=8, room=1.0, still=1.0, elevation_min=0, elevation_max=20)
    sample = SceneRenderer(4, 3, (36, 64), 1, options).draw(
        "assets", "o", scene, scene.clips[0], np.random.default_rng(3)
    )
    frames = sample.frames.float() / 255
    assert torch.equal(frames[:, 0], frames[:, 2])
    assert (frames[:, :, 3] == 1).all()
    colours = frames[:, 0, :3]
    assert (colours[1:] - colours[:-1]).abs().mean() > 0.02
    assert colours.std() > 0.05
    moving = SceneRenderer(4, 3, (36, 64), 1, OnTheFly(azimuth="arc", room=1.0)).draw(
        "assets", "o", scene, scene.clips[0], np.random.default_rng(3)
    )
    assert not torch.equal(moving.frames[:, 0], moving.frames[:, 2])


def test_a_room_needs_an_arc():
    with pytest.raises(UserError, match=r"azimuth to arc"):
        SceneRenderer(4, 3, 36, 1, OnTheFly(room=0.5))


def test_the_middle_of_an_arc_across_north():
    azimuth = torch.tensor([[350.0], [0.0], [10.0], [20.0]])
    cameras = Cameras(torch.zeros(4, 1), azimuth, torch.full((4, 1), 2.0))
    assert middle_azimuth(cameras) == pytest.approx(5.0, abs=1e-3)
