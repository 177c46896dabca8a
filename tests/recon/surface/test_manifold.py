"""Closed surfaces: what counts as a wrong edge, decimation that leaves none, and normals against the analytic ones."""

import sys

import igl
import manifold3d
import numpy as np
import pytest
import torch
import trimesh
from scenes import ball

from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.surface.manifold import decimated, vertex_normals, wrong_edges
from viewtime.recon.surface.mesh import extract_mesh


def thin_sheet():
    """A plate of Gaussians of one voxel's thickness with holes: what decimation pinches first."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(900, 2, generator=generator) - 0.5
    flat = flat[((flat * 12).sin().prod(dim=1).abs() > 0.05)]
    means = torch.cat([flat, 0.01 * torch.rand(len(flat), 1, generator=generator)], dim=1)[None]
    count = means.shape[1]
    return GaussianAsset(
        means, torch.full((count, 1), 0.016**2), torch.full((count,), 0.9), torch.rand(count, 3, generator=generator),
        torch.eye(3).expand(1, count, 3, 3), 10.0,
    )  # fmt: skip


def test_edges_of_one_or_three_triangles_and_turned_ones_are_wrong():
    whole = ball(1, 1).triangles
    assert wrong_edges(whole) == 0
    assert wrong_edges(whole[1:]) == 3
    assert wrong_edges(np.concatenate([whole, whole[:1]])) == 3
    assert wrong_edges(np.concatenate([whole[1:], whole[:1, ::-1]])) == 3


def test_the_surface_of_thin_things_is_closed_and_manifold_at_any_size():
    fine = extract_mesh(thin_sheet(), resolution=60, faces=10**9)
    assert wrong_edges(fine.triangles) == 0
    for faces in (2000, 800):
        mesh = extract_mesh(thin_sheet(), resolution=60, faces=faces)
        assert len(mesh.triangles) <= faces + 2 < len(fine.triangles)
        assert wrong_edges(mesh.triangles) == 0
        assert igl.is_vertex_manifold(mesh.triangles).all()
        solid = manifold3d.Manifold(
            manifold3d.Mesh(mesh.positions[0].astype(np.float32), mesh.triangles.astype(np.uint32))
        )
        assert solid.status() == manifold3d.Error.NoError


def test_decimation_keeps_the_shape():
    shape = trimesh.creation.icosphere(4, 0.3)
    vertices, triangles = decimated(np.asarray(shape.vertices), np.asarray(shape.faces), 600)
    assert len(triangles) <= 600
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 0.3, atol=0.01)


def test_normals_follow_the_motion():
    """On an ellipsoid that is stretched and turned, against its gradient."""
    mesh = ball(1, 4)
    unit = mesh.positions[0] / 0.3
    axes = np.array([0.2, 0.5, 0.3])
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    positions = np.stack([mesh.positions[0], (unit * axes) @ turn.T])
    normals = vertex_normals(positions, mesh.triangles)
    expected = (unit / axes) @ turn.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.linalg.norm(normals[0] - unit, axis=1).max() < 0.01
    assert np.linalg.norm(normals[1] - expected, axis=1).max() < 0.03
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("empty", [[[0, 1, 1]], [[0, 1, 2], [0, 2, 1]]])
def test_normals_where_there_is_no_area_are_still_of_length_one(empty):
    positions = np.array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    np.testing.assert_allclose(np.linalg.norm(vertex_normals(positions, np.array(empty)), axis=2), 1, atol=1e-6)


def test_of_libigl_nothing_under_another_licence_is_imported():
    """Its wheel has such modules; README says that none of them is used."""
    assert "igl" in sys.modules
    assert not [name for name in sys.modules if name.startswith(("igl.copyleft", "igl.triangle", "igl.embree"))]
