"""Procedural creatures: closed solids, skeletons that hang together, symmetry, repeatable draws, training grids."""

from __future__ import annotations

import numpy as np
import pytest

from viewtime.configs.schema.data import DataConfig, OnTheFly
from viewtime.data.build import build_mixture
from viewtime.data.creatures.anatomy import draw_creature
from viewtime.data.creatures.body import Chain, Creature, Swing, frame, turn
from viewtime.data.creatures.scene import creature_scene
from viewtime.data.creatures.shapes import Shape, surface, triangles
from viewtime.data.samples import generator_for
from viewtime.data.sources import Consumer
from viewtime.errors import UserError
from viewtime.render_objaverse.pose import pose_scene


def _volume(points: np.ndarray) -> float:
    a, b, c = (points[triangles()[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ni,ni->", a, np.cross(b, c)) / 6)


def test_a_round_solid_is_a_ball_whose_normals_point_outwards():
    points, normals = surface(Shape((0.5, 0.5, 0.5), np.eye(3), np.zeros(3)))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.5, atol=1e-6)
    assert ((points / 0.5 * normals).sum(1) > 0.95).all()
    assert 0.8 < _volume(points) / (4 / 3 * np.pi * 0.5**3) < 1  # inscribed, and not inside out


def test_a_square_solid_nears_its_box_and_a_taper_keeps_its_height():
    box = Shape((1.0, 2.0, 3.0), np.eye(3), np.zeros(3), squareness=(0.1, 0.1))
    assert _volume(surface(box)[0]) > 0.75 * 8 * 6
    cone = surface(Shape((1.0, 2.0, 1.0), np.eye(3), np.zeros(3), squareness=(0.1, 1.0), taper=-0.9))[0]
    top, bottom = cone[cone[:, 1] > 1.5], cone[cone[:, 1] < -1.5]
    assert cone[:, 1].max() == pytest.approx(2.0)
    assert cone[:, 1].min() == pytest.approx(-2.0)
    assert np.abs(top[:, 0]).max() < 0.2 * np.abs(bottom[:, 0]).max()


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (0.3, -0.9, 0.2)])
def test_the_frame_of_a_direction_is_a_rotation(direction):
    axes = frame(np.array(direction, float))
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[:, 1], np.array(direction) / np.linalg.norm(direction))
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_a_pair_is_its_own_mirror_image_at_rest_and_in_motion():
    """Bones to the left and right of the midline, swinging together: at every time, x -> -x maps the pair on itself."""
    swing = Swing(np.array([0.6, 0.0, 0.8]), 0.7, 0.3, 1)
    bend = turn(0, 20) @ turn(2, 30)
    root, direction = np.array([0.2, 0.1, 0.0]), np.array([1.0, -0.5, 0.3])
    chain = Chain(root, direction, np.array([0.3, 0.2]), np.array([0.1, 0.05]), bend, [0, 1], swing)
    creature = Creature()
    creature.pair(creature.bone(-1, np.zeros(3), Swing(np.array([1.0, 0, 0]), 0.0, 0.0, 1)), chain, alternate=False)
    heads = np.stack([bone.head for bone in creature.bones])
    np.testing.assert_allclose(heads[3:5], heads[1:3] * [-1, 1, 1])
    for left, right in zip(creature.bones[1:3], creature.bones[3:5], strict=True):
        assert (left.swing.amplitude, left.swing.phase) == (right.swing.amplitude, right.swing.phase)
        # The rotation about the mirrored axis is the mirror image of the rotation.
        flip, angle = np.diag([-1.0, 1.0, 1.0]), 0.4
        np.testing.assert_allclose(
            _rotation(right.swing.axis, angle), flip @ _rotation(left.swing.axis, angle) @ flip, atol=1e-12
        )


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_every_creature_hangs_together_and_moves():
    for seed in range(40):
        creature = draw_creature(np.random.default_rng(seed))
        assert all(bone.parent < index for index, bone in enumerate(creature.bones))
        assert {bone for bone, _ in creature.solids} <= set(range(len(creature.bones)))
        scene = creature_scene(np.random.default_rng(seed))
        times = scene.clips[0].frame_times(5)
        posed = pose_scene(scene, 0, times)
        extent = np.ptp(posed.positions.reshape(-1, 3), axis=0).max()
        assert 0.2 < extent < 5
        np.testing.assert_allclose(posed.positions[0], posed.positions[-1], atol=1e-4)  # whole periods: it loops
        assert np.abs(posed.positions[1] - posed.positions[0]).max() > 0.005


def test_the_rest_pose_is_where_the_solids_were_put():
    creature, scene = draw_creature(np.random.default_rng(3)), creature_scene(np.random.default_rng(3))
    rest = pose_scene(scene, None, [0.0]).positions[0]
    bone, shape = creature.solids[-1]
    wanted = surface(shape)[0] + creature.bones[bone].head
    blender = np.stack([wanted[:, 0], -wanted[:, 2], wanted[:, 1]], axis=1)
    np.testing.assert_allclose(rest[-len(wanted) :], blender, atol=1e-5)


def test_creatures_are_a_source_of_grids_that_repeats():
    options = OnTheFly(vary_stretch=1.0, vary_poses=1.0)
    source = build_mixture(DataConfig(creature_weight=1.0, views=3, frames=2, on_the_fly=options)).sources[0]
    first, again, other = (source.draw(Consumer(0), 0, generator_for(seed)) for seed in (1, 1, 2))
    assert first.frames.shape == (3, 2, 4, 64, 64)
    assert (first.frames == again.frames).all()
    assert not (first.frames == other.frames).all()
    cover = (first.frames[:, :, 3] > 127).float().mean((-1, -2))
    assert ((cover > 0.01) & (cover < 0.9)).all()


def test_creatures_are_pixels_and_left_out_unless_asked_for():
    with pytest.raises(UserError, match="latents comes from shards alone"):
        build_mixture(DataConfig(creature_weight=1.0, kind="latents"))
    with pytest.raises(UserError, match="no data"):
        build_mixture(DataConfig())
