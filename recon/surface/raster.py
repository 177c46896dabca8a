"""Pictures of a mesh: a z-buffer that says which triangle each sample shows, and where in it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from scipy.sparse import csr_matrix

from viewtime.cameras import Cameras
from viewtime.grid import FrameGrid
from viewtime.recon.fitting.hull import view_pixels
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.splats import Viewpoints

from .mesh import MovingMesh, Texture
from .silhouette import SOURCE

SUPERSAMPLE = 3


@dataclass(frozen=True)
class Hits:
    """face: [H, W] number of the nearest triangle, -1 for none; share: [H, W, 3] barycentric coordinates in it."""

    face: np.ndarray
    share: np.ndarray


def nearest_triangles(corners: np.ndarray, height: int, width: int) -> Hits:
    """Nearest triangle at every pixel centre; corners [T, 3, 3] are x, y (pixels) and depth (world units)."""
    library = load_library(SOURCE)
    if library is None:
        return nearest_triangles_reference(corners, height, width)
    corners = np.ascontiguousarray(corners, dtype=np.float32)
    face, share = np.empty((height, width), np.int32), np.zeros((height, width, 3), np.float32)
    size = [ctypes.c_int64(value) for value in (len(corners), height, width)]
    addresses = [array.ctypes.data_as(ctypes.c_void_p) for array in (corners, face, share)]
    library.nearest_triangles(*size, *addresses)
    return Hits(face, share)


def nearest_triangles_reference(corners: np.ndarray, height: int, width: int) -> Hits:
    """As `nearest_triangles`, triangle by triangle in numpy."""
    face, share = np.full((height, width), -1, np.int32), np.zeros((height, width, 3), np.float32)
    nearest = np.full((height, width), np.inf)
    for number, triangle in enumerate(np.asarray(corners, np.float64)):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = triangle
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or min(z0, z1, z2) <= 0:
            continue
        low = np.maximum(np.ceil(triangle[:, :2].min(0) - 0.5), 0).astype(int)
        high = np.minimum(np.floor(triangle[:, :2].max(0) - 0.5), [width - 1, height - 1]).astype(int)
        if (high < low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1) + 0.5, np.arange(low[1], high[1] + 1) + 0.5)
        weights = np.stack([
            ((x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)) / area / z0,
            ((x0 - x2) * (y - y2) - (x - x2) * (y0 - y2)) / area / z1,
            ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area / z2,
        ], axis=-1)  # fmt: skip
        total = weights.sum(-1)
        block = np.s_[low[1] : high[1] + 1, low[0] : high[0] + 1]
        depth = np.where(total > 0, 1 / np.where(total > 0, total, 1), np.inf)
        shown = (weights >= 0).all(-1) & (depth < nearest[block])
        nearest[block] = np.where(shown, depth, nearest[block])
        face[block] = np.where(shown, number, face[block])
        share[block] = np.where(shown[..., None], weights / np.where(total > 0, total, 1)[..., None], share[block])
    return Hits(face, share)


def mesh_hits(vertices: np.ndarray, triangles: np.ndarray, views: Viewpoints, supersample: int) -> list[Hits]:
    """One z-buffer per viewpoint, `supersample` times as fine as the picture."""
    points = torch.from_numpy(np.asarray(vertices, np.float32))
    depth = points @ views.world_to_camera[:, 2, :3].T + views.world_to_camera[:, 2, 3]
    placed = torch.cat([view_pixels(points, views) * supersample, depth.T[..., None]], dim=-1).numpy()
    return [nearest_triangles(one[triangles], views.height * supersample, views.width * supersample) for one in placed]


def vertex_shares(hits: Hits, triangles: np.ndarray, vertices: int, supersample: int) -> csr_matrix:
    """Matrix [H·W, P]: how much of each pixel shows each vertex; a row sums to the share covered by the mesh."""
    H, W = (side // supersample for side in hits.face.shape)
    y, x = np.nonzero(hits.face >= 0)
    pixel = (y // supersample) * W + x // supersample
    columns = triangles[hits.face[y, x]]
    values = hits.share[y, x] / supersample**2
    rows = np.repeat(pixel, 3)
    return csr_matrix((values.ravel(), (rows, columns.ravel())), shape=(H * W, vertices))


def texel_shares(hits: Hits, texture: Texture, supersample: int, *, nearest: bool = False) -> csr_matrix:
    """Matrix [H·W, R²]: how much of each pixel shows each texel; rows sum as in `vertex_shares`.

    Args:
        nearest: each sample reads the texel that it lies in, not the four around it.
    """
    (H, W), size = (side // supersample for side in hits.face.shape), len(texture.picture)
    y, x = np.nonzero(hits.face >= 0)
    pixel = (y // supersample) * W + x // supersample
    place = (hits.share[y, x][..., None] * texture.uv[texture.triangles[hits.face[y, x]]]).sum(axis=1) * size
    if nearest:
        reads = [(np.floor(place).astype(int), np.ones(len(place)))]
    else:
        first = np.floor(place - 0.5).astype(int)
        inside = place - 0.5 - first
        reads = [
            (first + step, np.abs(1 - step - inside).prod(axis=1))
            for step in np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        ]
    columns = [np.clip(texel, 0, size - 1) @ [1, size] for texel, _ in reads]
    values = np.concatenate([weight for _, weight in reads]) / supersample**2
    return csr_matrix((values, (np.tile(pixel, len(reads)), np.concatenate(columns))), shape=(H * W, size * size))


def mesh_picture(mesh: MovingMesh, frame: int, views: Viewpoints, supersample: int = SUPERSAMPLE) -> np.ndarray:
    """RGBA pictures [B, 4, H, W] with straight alpha; of the texture where there is one."""
    pictures = []
    colour, texture = mesh.colour, mesh.texture
    if texture is not None:
        colour = rearrange(texture.picture, "h w c -> (h w) c") / 255.0
    painted = np.concatenate([colour, np.ones((len(colour), 1))], axis=1)
    for hits in mesh_hits(mesh.positions[frame], mesh.triangles, views, supersample):
        if texture is None:
            shares = vertex_shares(hits, mesh.triangles, len(colour), supersample)
        else:
            shares = texel_shares(hits, texture, supersample)
        drawn = shares @ painted
        straight = drawn[:, :3] / np.maximum(drawn[:, 3:], 1e-6)
        picture = np.concatenate([straight, drawn[:, 3:]], axis=1)
        pictures.append(rearrange(picture, "(h w) c -> c h w", h=views.height))
    return np.stack(pictures).astype(np.float32)


def mesh_grid(mesh: MovingMesh, cameras: Cameras, height: int, width: int) -> FrameGrid:
    """RGBA grid [V, F, 4, H, W] of the mesh from the given cameras."""
    V, F = cameras.shape
    views = Viewpoints.of(cameras, height, width)
    columns = [mesh_picture(mesh, f, views[torch.arange(V) * F + f]) for f in range(F)]
    frames = torch.from_numpy(np.stack(columns, axis=1)).clamp(0, 1)
    return FrameGrid(frames, torch.zeros(V, F, dtype=torch.bool), cameras, mesh.fps, {"source": "mesh"})
