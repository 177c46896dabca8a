"""Camera distance, key-frame step and orbits against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from viewtime.errors import UserError
from viewtime.render_objaverse.framing import camera_distance, normalise, required_distance, temporal_step
from viewtime.render_objaverse.gltf_file import AssetError
from viewtime.render_objaverse.orbits import dynamic_orbit, static_orbit, with_distance

SIZE = 100


@pytest.fixture
def points() -> np.ndarray:
    """A lopsided clip [F, N, 3] that drifts."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=(4, 200, 3)) * [0.3, 1.0, 2.0] + np.arange(4)[:, None, None]).astype(np.float32)


def test_normalise_makes_the_longest_extent_one_and_centres_it(points: np.ndarray) -> None:
    placed = normalise(points).apply(points).reshape(-1, 3)
    extent = placed.max(axis=0) - placed.min(axis=0)
    assert extent.max() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(placed.max(axis=0) + placed.min(axis=0), 0, atol=1e-5)


def test_normalise_refuses_a_point() -> None:
    with pytest.raises(AssetError):
        normalise(np.zeros((2, 5, 3), np.float32))


def furthest_pixel(cameras, placed: np.ndarray) -> float:
    """Largest distance from the image centre, in half images, over all views and frames."""
    worst = 0.0
    for frame, vertices in enumerate(placed):
        pixels, depth = cameras[:, frame : frame + 1].project(torch.from_numpy(vertices), SIZE, SIZE)
        assert (depth > 0).all()
        worst = max(worst, float((pixels - SIZE / 2).abs().max()) / (SIZE / 2))
    return worst


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_projected_fit_touches_the_margin_and_no_more(points: np.ndarray, margin: float) -> None:
    placed = normalise(points).apply(points)
    cameras = dynamic_orbit(7, 4, np.random.default_rng(1))
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    distance = camera_distance(placed, turn, fit="projected", margin=margin)
    assert furthest_pixel(with_distance(cameras, distance), placed) == pytest.approx(1 - margin, abs=1e-4)


def test_growing_fit_is_the_first_step_of_the_loop(points: np.ndarray) -> None:
    placed = normalise(points).apply(points)
    cameras = static_orbit(5, 4, np.random.default_rng(2))
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    distance = camera_distance(placed, turn, fit="grow", base=1.0, growth=1.05, margin=0.04)
    loop = 1.0
    while loop < required_distance(placed, turn, margin=0.04):
        loop *= 1.05
    assert distance == pytest.approx(loop)
    assert furthest_pixel(with_distance(cameras, distance), placed) <= 0.96 + 1e-4
    assert furthest_pixel(with_distance(cameras, distance / 1.05), placed) > 0.96
    assert camera_distance(placed * 0.1, turn, fit="grow", base=2.0) == 2.0


def test_step_grows_until_frames_differ_and_stays_inside_the_clip() -> None:
    assert temporal_step(lambda step: 0.01 * step, 100, 5, threshold=0.045) == (5, pytest.approx(0.05))
    assert temporal_step(lambda step: 1.0, 100, 5, threshold=0.1)[0] == 1
    step, value = temporal_step(lambda step: 0.0, 22, 5, threshold=0.1)
    assert (step, value) == (5, 0.0)
    assert step * 4 <= 21


def test_temporal_step_needs_few_trials_on_a_long_clip() -> None:
    trials: list[int] = []
    temporal_step(lambda step: trials.append(step) or 0.0, 86_400, 21, threshold=0.1)
    assert trials[-1] == 86_399 // 20
    assert len(trials) < 100


def test_static_orbit_is_regular_with_one_elevation() -> None:
    cameras = static_orbit(8, 3, np.random.default_rng(0), elevation=(-5, 30))
    assert cameras.shape == (8, 3)
    np.testing.assert_allclose(cameras.azimuth[:, 0].numpy(), np.arange(8) * 45.0)
    assert float(cameras.elevation.std()) == 0
    assert -5 <= float(cameras.elevation[0, 0]) <= 30


def test_dynamic_orbits_wander_but_keep_their_bounds_and_order() -> None:
    for seed in range(50):
        cameras = dynamic_orbit(21, 2, np.random.default_rng(seed), amplitude=90, max_elevation=60)
        elevation, azimuth = cameras.elevation[:, 0].numpy(), cameras.azimuth[:, 0].numpy()
        assert np.abs(elevation).max() <= 60
        assert elevation.std() > 0
        assert azimuth[0] == 0
        assert (np.diff(azimuth) > 0).all()
        assert np.abs(azimuth - np.arange(21) * 360 / 21).max() <= 0.25 * 360 / 21 + 1e-3
    again = dynamic_orbit(21, 2, np.random.default_rng(49), amplitude=90, max_elevation=60)
    torch.testing.assert_close(again.elevation, cameras.elevation)


def test_an_orbit_that_would_reorder_views_is_refused() -> None:
    with pytest.raises(UserError, match="azimuth_jitter"):
        dynamic_orbit(4, 1, np.random.default_rng(0), azimuth_jitter=0.6)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_the_smallest_distance_by_hand(aspect: float) -> None:
    """One point, one camera that looks along z: inside while |x| <= aspect k (d + z) and |y| <= k (d + z)."""
    slope = np.tan(np.radians(60.0) / 2) * 0.9
    looking = np.eye(3)[None]
    for x, y, z in ((0.6, 0.1, 0.2), (-0.6, 0.1, -0.2), (0.1, 0.5, 0.3), (0.1, -0.5, -0.3)):
        points = np.array([[[x, y, z]]], np.float32)
        expected = max(abs(x) / aspect, abs(y)) / slope - z
        found = required_distance(points, looking, fov_y=60.0, margin=0.1, aspect=aspect)
        assert found == pytest.approx(expected, abs=1e-5)


def test_the_smallest_distance_is_that_of_the_worst_frame_and_view() -> None:
    turned = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], float)  # looks along x
    points = np.array([[[0.1, 0, 0], [0, 0, 0.4]], [[0.3, 0, 0], [0, 0, -0.2]]], np.float32)
    slope = np.tan(np.radians(45.0) / 2)
    seen = [max(abs(0.4) / slope, 0.1 / slope), 0.3 / slope]
    both = required_distance(points, np.stack([np.eye(3), turned]), fov_y=45.0, margin=0.0)
    assert both == pytest.approx(max(seen), abs=1e-5)
    first = required_distance(points, np.eye(3)[None], fov_y=45.0, margin=0.0)
    assert first == pytest.approx(0.3 / slope, abs=1e-5)
