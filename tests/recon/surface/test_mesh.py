"""The mesh: z-buffer against its plain twin, silhouettes, colours from pictures, refinement against masks."""

import dataclasses

import numpy as np
import pytest
import torch
from scenes import ball

from viewtime.cameras import regular_orbit
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface.paint import paint
from viewtime.recon.surface.raster import mesh_grid, mesh_hits, nearest_triangles, nearest_triangles_reference
from viewtime.recon.surface.refine import outline_forces, outline_forces_reference, refine
from viewtime.recon.surface.silhouette import SOURCE as MESH_SOURCE
from viewtime.recon.surface.silhouette import Outline, silhouettes

SIZE = 48


needs_compiler = pytest.mark.skipif(load_library(MESH_SOURCE) is None, reason="no C++ compiler on this machine")


@needs_compiler
def test_compiled_z_buffer_equals_the_plain_one():
    corners = np.random.default_rng(0).uniform([-4, -4, 1], [36, 28, 3], (60, 3, 3))
    fast, slow = nearest_triangles(corners, 24, 32), nearest_triangles_reference(corners, 24, 32)
    assert (fast.face != slow.face).mean() < 0.005  # pixel centres on an edge may fall to either side
    same = fast.face == slow.face
    assert (slow.face >= 0).mean() > 0.5
    np.testing.assert_allclose(fast.share[same], slow.share[same], atol=1e-4)


def test_shares_are_perspective_correct():
    """The point that the shares name in the world projects back onto the sample."""
    mesh = ball(1)
    views = Viewpoints.of(regular_orbit(2, 1, elevation=20.0), SIZE, SIZE)
    for b, hits in enumerate(mesh_hits(mesh.positions[0], mesh.triangles, views, 1)):
        y, x = np.nonzero(hits.face >= 0)
        corners = mesh.positions[0][mesh.triangles[hits.face[y, x]]]
        points = (hits.share[y, x][..., None] * corners).sum(axis=1)
        camera = points @ views.world_to_camera[b, :3, :3].numpy().T + views.world_to_camera[b, :3, 3].numpy()
        pixels = float(views.focal[b]) * camera[:, :2] / camera[:, 2:] + views.centre[b].numpy()
        np.testing.assert_allclose(pixels, np.stack([x, y], axis=1) + 0.5, atol=0.01)
        assert np.linalg.norm(points, axis=1).min() > 0.29
        assert (camera[:, 2] < np.linalg.norm(views.world_to_camera[b, :3, 3].numpy())).all()


def test_covered_share_equals_the_silhouette():
    mesh = ball(2)
    cameras = regular_orbit(3, 2)
    drawn = mesh_grid(mesh, cameras, SIZE, SIZE).frames[:, 1, 3].numpy()
    views = Viewpoints.of(cameras, SIZE, SIZE)[torch.arange(3) * 2 + 1]
    outline = silhouettes(mesh.positions[1], mesh.triangles, views)
    assert abs(drawn.sum() / outline.sum() - 1) < 0.01
    assert ((drawn > 0.5) != (outline > 0.5)).mean() < 0.005


def test_colours_are_recovered_from_pictures():
    mesh = ball(2)
    targets = make_targets(mesh_grid(mesh, regular_orbit(6, 2), SIZE, SIZE))
    grey = dataclasses.replace(mesh, colour=np.full_like(mesh.colour, 0.5))
    painted = paint(grey, targets)
    seen = np.abs(mesh.positions[0][:, 2]) < 0.2
    assert np.abs(painted.colour - mesh.colour)[seen].mean() < 0.02
    assert np.abs(grey.colour - mesh.colour)[seen].mean() > 0.15


@needs_compiler
def test_compiled_forces_on_the_outline_equal_the_plain_ones():
    """Of a bumpy shape, partly outside the pictures, against masks that are neither full nor empty."""
    random = np.random.default_rng(0)
    mesh = ball(1)
    vertices = mesh.positions[0].astype(float) * random.uniform(0.8, 1.2, (mesh.positions.shape[1], 1)) + [0.4, 0, 0.2]
    views = Viewpoints.of(regular_orbit(3, 1, elevation=20.0), SIZE, SIZE + 10)
    masks = random.uniform(0, 1, (3, SIZE, SIZE + 10)).astype(np.float32)
    outline = Outline(mesh.triangles)
    fast = outline_forces(vertices, outline, masks, views)
    slow = outline_forces_reference(vertices, outline, masks, views)
    assert (slow[1] > 0).sum() > 20
    np.testing.assert_array_equal(fast[1], slow[1])
    np.testing.assert_allclose(fast[0], slow[0], rtol=1e-6, atol=1e-9)


def test_refinement_brings_the_outline_onto_the_masks():
    mesh = ball(2)
    targets = make_targets(mesh_grid(mesh, regular_orbit(6, 2), 64, 64))
    smaller = mesh.with_positions(mesh.positions * 0.9)
    refined = refine(smaller, targets, 10)
    errors = [np.abs(np.linalg.norm(m.positions[0], axis=1) - 0.3).mean() for m in (smaller, refined)]
    assert errors[1] < 0.3 * errors[0]
