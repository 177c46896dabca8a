"""Textures: the atlas of a closed surface, and colours recovered from pictures more finely than by vertices."""

import dataclasses

import numpy as np
import pytest
import torch
from scenes import ball

from viewtime.cameras import regular_orbit
from viewtime.errors import UserError
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface.atlas import texel_faces, unfolded
from viewtime.recon.surface.paint import paint
from viewtime.recon.surface.raster import mesh_grid, mesh_hits, texel_shares
from viewtime.recon.surface.texture import textured

SIZE = 48


def striped(subdivisions, texels=256):
    """A ball of few triangles whose texture holds stripes that are finer than the triangles."""
    texture = unfolded(ball(2, subdivisions), texels)
    mesh = ball(2, subdivisions)
    face, share, _ = texel_faces(texture)
    place = (share[..., None] * mesh.positions[0][mesh.triangles[face]]).sum(axis=2)
    light = (np.sin(place[..., 2:] * 40) > 0) * 0.6 + 0.2
    picture = (np.concatenate([light, 1 - light, 0.5 + place[..., :1]], axis=2) * 255 + 0.5).astype(np.uint8)
    return dataclasses.replace(mesh, texture=dataclasses.replace(texture, picture=picture))


def test_charts_do_not_overlap_and_every_triangle_keeps_its_place():
    mesh = ball(1)
    texture = unfolded(mesh, 256)
    np.testing.assert_array_equal(texture.vertex[texture.triangles], mesh.triangles)
    assert 0 <= texture.uv.min() <= texture.uv.max() <= 1
    corners = texture.uv[texture.triangles] * 256
    sides = corners[:, 1:] - corners[:, :1]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]) / 2
    covered = (texel_faces(texture)[2] == 0).sum()
    assert area.sum() == pytest.approx(covered, rel=0.03)  # overlapping charts would cover less than their sum
    assert covered > 0.3 * 256**2


def test_shares_of_texels_name_the_point_that_the_sample_shows():
    """A picture that holds each texel's own place is read back as the place that the vertices' shares give."""
    mesh = striped(2)
    views = Viewpoints.of(regular_orbit(1, 1), SIZE, SIZE)
    (hits,) = mesh_hits(mesh.positions[0], mesh.triangles, views, 1)
    y, x = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5, indexing="ij")
    read = texel_shares(hits, mesh.texture, 1) @ np.stack([x.ravel(), y.ravel()], axis=1)
    seen = np.nonzero(hits.face.ravel() >= 0)[0]
    corners = mesh.texture.uv[mesh.texture.triangles[hits.face.ravel()[seen]]]
    wanted = (hits.share.reshape(-1, 3)[seen][..., None] * corners).sum(axis=1) * 256
    np.testing.assert_allclose(read[seen], wanted, atol=0.02)


def test_a_baked_texture_shows_what_vertex_colours_cannot():
    mesh = striped(2)
    grid = mesh_grid(mesh, regular_orbit(6, 2), SIZE, SIZE)
    targets = make_targets(grid)
    grey = dataclasses.replace(mesh, colour=np.full_like(mesh.colour, 0.5), texture=None)
    painted = paint(grey, targets)
    baked = textured(painted, targets, 128)
    errors = [float((mesh_grid(m, regular_orbit(6, 2), SIZE, SIZE).rgb() - grid.rgb()).square().mean())
              for m in (grey, painted, baked)]  # fmt: skip
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.2 * errors[1]
    unseen = regular_orbit(6, 2, azimuth_start=30.0)
    truth = mesh_grid(mesh, unseen, SIZE, SIZE).rgb()
    errors = [float((mesh_grid(m, unseen, SIZE, SIZE).rgb() - truth).square().mean()) for m in (painted, baked)]
    assert errors[1] < 0.5 * errors[0]


def test_what_no_view_sees_keeps_the_vertices_colour():
    mesh = dataclasses.replace(ball(1), colour=np.full_like(ball(1).colour, 0.25))
    front = make_targets(mesh_grid(ball(1), regular_orbit(8, 1)[:2], SIZE, SIZE))
    baked = textured(mesh, front, 64)
    face, _, gap = texel_faces(baked.texture)
    away = mesh.positions[0][mesh.triangles[face]].mean(axis=2)[..., 1] > 0.2  # the cameras look from -y
    back = baked.texture.picture[away & (gap == 0)] / 255
    assert np.abs(back - 0.25).mean() < 0.05
    assert torch.isfinite(mesh_grid(baked, regular_orbit(1, 1), SIZE, SIZE).rgb()).all()


def test_a_size_that_no_card_takes_is_told():
    with pytest.raises(UserError, match="texture-size 9000 is not between 16 and 8192"):
        textured(ball(1), make_targets(mesh_grid(ball(1), regular_orbit(2, 1), SIZE, SIZE)), 9000)
