"""Pictures and outlines of a mesh: plain twins, values by hand, and pins of what becomes of a ball."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import ball, training_grid
from scipy.spatial.transform import Rotation

from tests.pins import assert_pinned
from viewtime.cameras import regular_orbit
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface import raster, refine, silhouette
from viewtime.recon.surface.mesh import MovingMesh, Texture, largest_parts
from viewtime.recon.surface.paint import paint
from viewtime.recon.surface.raster import Hits, mesh_hits, mesh_picture, texel_shares, vertex_shares
from viewtime.recon.surface.silhouette import Outline, bilinear, cover, cover_reference, silhouettes
from viewtime.recon.surface.skinning import skin_mesh

TOLERANCE = 1e-3


def views_of(height: int = 20, width: int = 28) -> Viewpoints:
    return Viewpoints.of(regular_orbit(2, 1, elevation=25.0, azimuth_start=20.0), height, width)


def test_a_triangle_covers_the_pixel_centres_inside_it() -> None:
    triangle = np.array([[[1.0, 1.0], [6.0, 1.0], [1.0, 5.0]]])
    wanted = np.zeros((7, 8), np.uint8)
    for y in range(7):
        for x in range(8):
            u, v = (x + 0.5 - 1) / 5, (y + 0.5 - 1) / 4
            wanted[y, x] = u >= 0 and v >= 0 and u + v <= 1
    assert wanted.sum() == 10
    for form in (triangle, triangle[:, ::-1]):
        assert (cover_reference(form, 7, 8) == wanted).all()
        assert (cover(form, 7, 8) == wanted).all()
    assert not cover_reference(triangle[:, [0, 1, 1]], 7, 8).any(), "no area"


def test_triangles_beyond_the_picture_are_cut_at_its_edge() -> None:
    corners = np.random.default_rng(1).uniform([-6, -5], [14, 12], (30, 3, 2)).astype(np.float32)
    for form in (corners[:7], corners):
        assert (cover(form, 7, 8) != cover_reference(form, 7, 8)).mean() < 0.02
    assert cover_reference(np.array([[[-9.0, -9], [30, -9], [-9, 30]]]), 7, 8).all()
    assert not cover_reference(np.array([[[20.0, 1], [30, 1], [20, 9]]]), 7, 8).any()


def test_values_between_pixel_centres() -> None:
    image = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 8.0]])
    places = np.array([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [1.25, 0.75], [2.5, 1.5], [-3, -3], [9, 9]])
    # (1.25, 0.75): three quarters of the way between columns 0 and 1, a quarter between the rows.
    wanted = [0, 0.5, 1.0, 0.75 * 0.75 + 0.25 * 2.75, 8, 0, 8]
    np.testing.assert_allclose(bilinear(image, places), wanted, atol=0.01)


def test_nothing_lies_outside_a_picture() -> None:
    image = np.arange(1, 7).reshape(2, 3)
    places = np.array([[0.0, 0.0], [2.9, 1.9], [2.9, 0.1], [-0.1, 0.5], [0.5, -0.1], [3.0, 1.0], [1.0, 2.0]])
    assert silhouette._at(image, places).tolist() == [1, 6, 3, 0, 0, 0, 0]


def test_the_outline_of_a_cube_is_its_rim() -> None:
    """Seen along z: of the 18 edges of a cube of twelve triangles the four of the near face that bound it."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    outline = Outline(triangles)
    assert len(outline.edges) == 18
    assert (outline.second_face >= 0).all()
    near = 1 + 0.2 * corners[:, 2:]  # z = 1 is nearer, so larger
    pixels = 10 + 6 * (corners[:, :2] - 0.5) * near
    covered = cover(pixels[triangles], 20, 20)
    edges, middle, normal = outline.visible(pixels, covered)
    found = {tuple(np.round(m, 3)): tuple(np.round(n, 3) + 0.0) for m, n in zip(middle, normal)}
    assert found == {(6.4, 10.0): (-1, 0), (13.6, 10.0): (1, 0), (10.0, 6.4): (0, -1), (10.0, 13.6): (0, 1)}
    ends = {frozenset(outline.edges[edge].tolist()) for edge in edges}
    assert ends == {frozenset(pair) for pair in ((1, 3), (5, 7), (1, 5), (3, 7))}
    open_outline = Outline(triangles[:-1])
    assert (open_outline.second_face < 0).sum() == 3


def test_a_ball_in_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, views = ball(2, 1), views_of()
    covered = silhouettes(mesh.positions[1], mesh.triangles, views)
    assert_pinned("covered", covered, 3e-2)
    fast = mesh_picture(mesh, 1, views)
    assert fast.shape == (2, 4, 20, 28)
    masks = np.roll(covered, 1, axis=2)
    pull, weight = refine.outline_forces(mesh.positions[1], Outline(mesh.triangles), masks, views)
    for module in (raster, silhouette, refine):
        monkeypatch.setattr(module, "load_library", lambda source: None)
    slow = mesh_picture(mesh, 1, views)
    assert np.abs(fast - slow).mean() < 2e-3
    assert_pinned("ball", slow, 3e-2)
    plain_pull, plain_weight = refine.outline_forces(mesh.positions[1], Outline(mesh.triangles), masks, views)
    assert_pinned("pull", plain_pull, 3e-2)
    assert_pinned("pull weight", plain_weight, 3e-2)
    assert np.abs(pull - plain_pull).mean() < 1e-4
    assert np.abs(weight - plain_weight).mean() < 0.02


def test_a_pixel_that_four_samples_share() -> None:
    """2 × 2 pixels of 2 × 2 samples; triangle 0 in three samples of the first pixel, triangle 1 in one of the last."""
    face = np.full((4, 4), -1)
    face[0, 0], face[0, 1], face[1, 1], face[3, 2] = 0, 0, 0, 1
    share = np.zeros((4, 4, 3))
    share[0, 0], share[0, 1], share[1, 1], share[3, 2] = (1, 0, 0), (0.5, 0.5, 0), (0, 0, 1), (0.2, 0.3, 0.5)
    triangles = np.array([[0, 1, 2], [2, 3, 4]])
    shares = vertex_shares(Hits(face, share), triangles, 5, 2).toarray()
    np.testing.assert_allclose(
        shares, [[0.375, 0.125, 0.25, 0, 0], [0] * 5, [0] * 5, [0, 0, 0.05, 0.075, 0.125]], atol=1e-9
    )
    corners = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.625, 0.875], [0.0, 0.0]])
    texture = Texture(np.arange(5), triangles, corners, np.zeros((2, 2, 3), np.uint8))
    texels = texel_shares(Hits(face, share), texture, 2).toarray()
    # Texel centres lie at a quarter and three quarters: corner 0 is the first texel, 1 its right one, 2 the one below.
    np.testing.assert_allclose(texels[0], [0.375, 0.125, 0.25, 0], atol=1e-9)
    # The last sample lies at (0.2375, 0.4125), left of the first column's centres and 0.325 of the way down.
    np.testing.assert_allclose(texels[3], [0.25 * 0.675, 0, 0.25 * 0.325, 0], atol=1e-9)
    nearest = texel_shares(Hits(face, share), texture, 2, nearest=True).toarray()
    assert nearest[0].tolist() == [0.25, 0.25, 0.25, 0]


def test_a_textured_and_a_painted_ball() -> None:
    mesh, targets = ball(2, 2), make_targets(training_grid(3, 2, 24))
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    uv = np.random.default_rng(1).random((len(mesh.colour), 2))
    texture = Texture(np.arange(len(uv)), mesh.triangles, uv, picture)
    textured = MovingMesh(mesh.positions, mesh.triangles, mesh.colour, mesh.fps, texture)
    assert_pinned("textured", mesh_picture(textured, 0, views_of()), 3e-2)
    assert_pinned("painted", paint(mesh, targets).colour, 3e-2)
    assert_pinned("refined", refine.refine(mesh, targets, 2).positions, 3e-2)


def test_small_pieces_fall_off() -> None:
    mesh = ball(1, 2)
    lone = np.array([[9.0, 0, 0], [9, 1, 0], [9, 0, 1]])
    vertices = np.concatenate([lone, mesh.positions[0]])
    triangles = np.concatenate([[[0, 1, 2]], mesh.triangles + 3])
    kept, faces = largest_parts(vertices, triangles)
    np.testing.assert_array_equal(kept[faces], vertices[triangles[1:]])
    assert len(kept) == len(mesh.positions[0])
    assert len(largest_parts(vertices, triangles, share=1 / 321)[1]) == 321
    assert len(largest_parts(vertices, triangles, share=1.1 / 321)[1]) == 320


def test_a_skin_of_two_rigid_halves_reproduces_them() -> None:
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (60, 3))
    points[:30, 0] -= 1.0
    points[30:, 0] += 1.0
    turn = Rotation.from_rotvec([0, 0.4, 0.3]).as_matrix()
    moved = points.copy()
    moved[30:] = (points[30:] - [1, 0, 0]) @ turn.T + [1.2, 0.1, 0]
    triangles = np.array([[0, 1, 2], [30, 31, 32]])
    mesh = MovingMesh(np.stack([points, moved]).astype(np.float32), triangles, np.zeros((60, 3), np.float32), 10.0)
    skin = skin_mesh(mesh, 4)
    np.testing.assert_allclose(skin.pose(points), mesh.positions, atol=0.02)
    np.testing.assert_allclose(skin.weight.sum(axis=1), 1)
    assert (skin.weight >= 0).all()
    assert np.allclose(skin.rotations[0], np.eye(3))
    soft = ball(3, 2)
    bent = soft.positions.astype(np.float64)
    bent[1:, :, 2] += 0.3 * bent[1:, :, 0] ** 2
    skin = skin_mesh(soft.with_positions(bent), 6)
    assert_pinned("skin", skin.pose(bent[0]), TOLERANCE)
    assert_pinned("skin weights", skin.weight, TOLERANCE)


def test_views_are_of_each_instant_in_turn() -> None:
    hits = mesh_hits(ball(1, 1).positions[0], ball(1, 1).triangles, views_of(), 2)
    assert [one.face.shape for one in hits] == [(40, 56), (40, 56)]
    assert torch.tensor(hits[0].share).sum() == pytest.approx(float((hits[0].face >= 0).sum()), rel=1e-4)
