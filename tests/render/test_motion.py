"""How much pictures differ, whether rendered frames move as they should, and the same for white, black and grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_gltf import octahedron

from viewtime.data.curation.pixel_motion import SIZE as MEASURED
from viewtime.data.curation.pixel_motion import largest_distance, pixel_motion
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.motion import change, disagreement, over, smaller
from viewtime.render_objaverse.plan import key_difference
from viewtime.render_objaverse.pose import pose_scene

SIZE = MEASURED  # of the renderer


def bars(*columns: int, views: int = 1) -> np.ndarray:
    """Silhouettes uint8 [V, F, 8, 8]: two columns wide, from a column on in each frame."""
    pictures = np.zeros((views, len(columns), 8, 8), np.uint8)
    for frame, column in enumerate(columns):
        pictures[:, frame, :, column : column + 2] = 255
    return pictures


def test_a_colour_over_a_background_is_mixed_by_its_alpha() -> None:
    image = np.array([[0.2, 0.4, 0.6, 0.25]])
    np.testing.assert_allclose(over(image, 1.0), [[0.8, 0.85, 0.9]])
    np.testing.assert_allclose(over(image, 0.0), [[0.05, 0.1, 0.15]])


def test_change_is_one_minus_the_overlap() -> None:
    found = change(bars(0, 1, 2, 0))[0]
    np.testing.assert_allclose(found[0], [0, 1 - 1 / 3, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found, found.T)


def test_pictures_are_made_smaller_by_the_mean_of_their_pixels() -> None:
    alpha = np.zeros((1, 4, 4), np.uint8)
    alpha[0, :2, 0] = 200
    np.testing.assert_array_equal(smaller(alpha, 2)[0], [[100, 0], [0, 0]])
    np.testing.assert_array_equal(smaller(alpha[:, ::2, ::2], 4)[0, :2, :2], 200)


def test_frames_that_stand_still_where_they_should_move_are_told() -> None:
    assert disagreement(bars(0, 2, 4), bars(0, 2, 4)) == ""
    assert "do not move as the file says" in disagreement(bars(0, 2, 4), bars(0, 0, 0))
    assert disagreement(bars(0, 0, 0), bars(0, 0, 0)) == ""
    # One view of two is enough to see that it moves.
    two = np.concatenate([bars(0, 2, 4), bars(0, 0, 0)])
    assert disagreement(bars(0, 2, 4, views=2), two) == ""
    # It moves, but only a fifth as far as it should.
    assert disagreement(np.repeat(bars(0, 4), 4, axis=3), np.roll(np.repeat(bars(0, 0), 4, axis=3), 1, 1)) != ""


def test_the_largest_distance_is_between_any_two_pictures() -> None:
    pixels = np.zeros((4, 2, 3))
    pixels[1] = 0.1
    pixels[2, 0] = 0.6  # mean over two pixels: 0.3 from the first, 0.25 + ... from the others
    pixels[3] = -0.2
    assert largest_distance(pixels) == pytest.approx(np.abs(pixels[2] - pixels[3]).mean())
    assert largest_distance(pixels[2:]) == pytest.approx(0.5)
    assert largest_distance(pixels[:, :0]) == 0.0


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.2, 0.2)])
def test_an_object_of_any_colour_moves_as_much(tmp_path: Path, renderer: GLRenderer, colour: tuple) -> None:
    """It leaves its place entirely: what it covers in either of two pictures changes by its contrast."""
    builder = octahedron(radius=0.2, colour=colour, unlit=True)
    builder.animate("clip", 0, "translation", [0, 1], np.array([[0, 0, 0], [2.0, 0, 0]]))
    scene = load_scene(builder.write(tmp_path / "moving.glb"))
    encoded = 1.055 * colour[0] ** (1 / 2.4) - 0.055 if colour[0] > 0.0031308 else 12.92 * colour[0]
    contrast = max(encoded, 1 - encoded)
    measured = key_difference(pose_scene(scene, "clip", [0.0, 1.0]), renderer)
    # Seen from the side it moves away from the camera and changes little; the mean is of both views.
    assert 0.5 * contrast < measured < 1.02 * contrast
    # Seen from the side the nearest picture covers all others; the farthest has two fifths of its area.
    assert pixel_motion(renderer, scene, scene.clips[0]) == pytest.approx(0.6 * contrast, rel=0.02)


def test_a_still_object_does_not_move(tmp_path: Path, renderer: GLRenderer) -> None:
    builder = octahedron(radius=0.2)
    builder.animate("clip", 0, "translation", [0, 1], np.zeros((2, 3)))
    scene = load_scene(builder.write(tmp_path / "still.glb"))
    assert key_difference(pose_scene(scene, "clip", [0.0, 1.0]), renderer) == 0.0
    assert pixel_motion(renderer, scene, scene.clips[0]) == 0.0
