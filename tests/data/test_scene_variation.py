"""Changes to a scene before it is rendered: a stretch with its normals, a pose that only turns joints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from viewtime.data.creatures.scene import creature_scene
from viewtime.data.live.scene_variation import (
    LARGEST_STRETCH,
    LARGEST_TURN,
    draw_pose,
    draw_stretch,
    stretched,
    warped,
)
from viewtime.data.samples import generator_for
from viewtime.render_objaverse.pose import pose_scene, world_matrices


def test_a_stretch_scales_points_and_keeps_normals_upright_on_their_surface():
    scene = creature_scene(np.random.default_rng(1))
    posed = pose_scene(scene, 0, [0.0, 0.3])
    factors = np.array([2.0, 1.0, 0.5], np.float32)
    wide = stretched(posed, factors)
    np.testing.assert_allclose(wide.positions, posed.positions * factors, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(wide.normals, axis=-1), 1.0, atol=1e-5)
    # A tangent is stretched with the surface; it stays at right angles to the new normal.
    tangent = np.cross(posed.normals, [0.3, -0.8, 0.5])
    assert np.abs((tangent * factors * wide.normals).sum(-1)).max() < 1e-5


def test_a_stretch_is_bounded_and_changes_proportions():
    drawn = np.stack([draw_stretch(generator_for(seed)) for seed in range(200)])
    ratio = drawn.max(axis=1) / drawn.min(axis=1)
    assert ratio.max() <= LARGEST_STRETCH + 1e-6
    assert ratio.max() > 1.3


def test_a_changed_pose_turns_some_joints_and_moves_none_out_of_its_socket():
    scene = creature_scene(np.random.default_rng(5))
    clip = scene.clips[0]
    changed = draw_pose(generator_for(0), scene, clip)
    assert (changed.start, changed.end) == (clip.start, clip.end)
    times = np.array([0.1, 0.4])
    before, after = (_local_rotations(scene, which, times) for which in (clip, changed))
    angle = np.degrees(np.arccos(np.clip((np.einsum("nfij,nfij->nf", before, after) - 1) / 2, -1, 1)))
    turned = angle.max(axis=1) > 0.5
    assert 0 < turned.mean() < 1
    assert angle.max() <= LARGEST_TURN + 0.5
    for node in np.flatnonzero(scene.parents >= 0):  # a joint stays at its place on its parent
        parent = scene.parents[node]
        offset = np.linalg.norm(scene.translations[node])
        matrices = world_matrices(scene, changed, times)
        np.testing.assert_allclose(
            np.linalg.norm(matrices[node, :, :3, 3] - matrices[parent, :, :3, 3], axis=-1), offset, atol=1e-4
        )


def _local_rotations(scene, clip, times):
    """Each node's rotation relative to its parent, [n, F, 3, 3]."""
    world = world_matrices(scene, clip, times)[..., :3, :3]
    local = world.copy()
    for node, parent in enumerate(scene.parents):
        if parent >= 0:
            local[node] = np.swapaxes(world[parent], -1, -2) @ world[node]
    return local


def test_a_bend_folds_nothing_and_turns_normals_with_the_surface():
    scene = creature_scene(np.random.default_rng(2))
    posed = pose_scene(scene, 0, [0.0, 0.4])
    bent = warped(posed, generator_for(3))
    size = np.ptp(posed.positions[0], axis=0).max()
    assert 0.01 * size < np.abs(bent.positions - posed.positions).max() < 0.6 * size
    np.testing.assert_allclose(np.linalg.norm(bent.normals, axis=-1), 1.0, atol=1e-4)
    # A small step along the surface, bent as its point is, stays at right angles to the bent normal.
    tangent = np.cross(posed.normals, [0.3, -0.8, 0.5])
    step = replace(posed, positions=(posed.positions + 1e-3 * size * tangent).astype(np.float32))
    # The field is laid about the object's own middle and size: two of the step's points span what the object does.
    step.positions[0, :2] = np.stack([posed.positions[0].min(axis=0), posed.positions[0].max(axis=0)])
    moved = (warped(step, generator_for(3)).positions - bent.positions) / (1e-3 * size)
    slant = np.abs((moved * bent.normals).sum(-1))[:, 2:]
    assert np.median(slant) < 0.02
