"""Unfolding a closed surface into a square: charts that bend little, packed with room between them (xatlas)."""

from __future__ import annotations

import numpy as np
import xatlas
from scipy import ndimage

from .mesh import MovingMesh, Texture
from .raster import nearest_triangles

PADDING = 4  # texels between charts, so that bilinear and coarser reads stay inside one


def unfolded(mesh: MovingMesh, size: int) -> Texture:
    """Corners and their places for a picture of size × size texels, which is left black.

    Charts are cut on the first frame's shape; triangles keep their order.
    """
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.positions[0].astype(np.float32), mesh.triangles.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, PADDING, True
    atlas.generate(pack_options=packing)
    vertex, triangles, uv = atlas[0]
    vertex, triangles = vertex.astype(np.int64), triangles.astype(np.int64)
    assert (vertex[triangles] == mesh.triangles).all()
    return Texture(vertex, triangles, uv.astype(np.float32), np.zeros((size, size, 3), np.uint8))


def texel_faces(texture: Texture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which triangle each texel belongs to, and where it lies in it.

    Returns:
        face [R, R] int: of the nearest texel inside a chart. share [R, R, 3]: barycentric coordinates there.
        gap [R, R]: distance to that texel, in texels; 0 inside the charts.
    """
    size = len(texture.picture)
    corners = np.concatenate([texture.uv * size, np.ones((len(texture.uv), 1))], axis=1)[texture.triangles]
    hits = nearest_triangles(corners, size, size)
    gap, nearest = nearest_of(hits.face >= 0)
    return hits.face[tuple(nearest)], hits.share[tuple(nearest)], gap


def nearest_of(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each texel the distance to the nearest chosen one, [R, R], and that one's row and column, [2, R, R]."""
    found = ndimage.distance_transform_edt(~chosen, return_indices=True)
    assert found is not None
    return found[0], found[1]
