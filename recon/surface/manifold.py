"""What a closed surface is measured and made smaller by: edges, normals, decimation that keeps its topology."""

from __future__ import annotations

import igl
import numpy as np
from scipy.sparse import csr_matrix


def wrong_edges(triangles: np.ndarray) -> int:
    """Number of edges that do not lie between exactly two triangles which run through them in opposite directions."""
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges, which = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True)
    forward = directed[:, 0] < directed[:, 1]
    counts = [np.bincount(which.ravel()[chosen], minlength=len(edges)) for chosen in (forward, ~forward)]
    return int(((counts[0] != 1) | (counts[1] != 1)).sum())


def decimated(vertices: np.ndarray, triangles: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `faces` triangles (or as few as the topology lets); a closed manifold stays one.

    Edge collapses by quadric error (Garland and Heckbert 1997), refused where the link condition fails.
    """
    if len(triangles) <= faces:
        return vertices, triangles
    fewer = igl.qslim(vertices.astype(np.float64), triangles.astype(np.int64), faces)
    return fewer[0].astype(np.float32), fewer[1].astype(np.int64)


def vertex_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [F, P, 3] of positions [F, P, 3]: means over the triangles around, weighted by their angles."""
    F, P, _ = positions.shape
    corners = positions[:, triangles].astype(np.float64)
    face = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    face /= np.maximum(np.linalg.norm(face, axis=-1, keepdims=True), 1e-20)
    result = np.empty((F, P, 3), np.float32)
    for frame in range(F):
        along = np.roll(corners[frame], -1, axis=1) - corners[frame]
        along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-20)
        angle = np.arccos(np.clip(-(along * np.roll(along, 1, axis=1)).sum(-1), -1, 1))
        columns = np.repeat(np.arange(len(triangles)), 3)
        total = csr_matrix((angle.ravel(), (triangles.ravel(), columns)), shape=(P, len(triangles))) @ face[frame]
        length = np.linalg.norm(total, axis=1, keepdims=True)
        result[frame] = np.where(length > 1e-12, total / np.maximum(length, 1e-20), [0.0, 0.0, 1.0])
    return result
