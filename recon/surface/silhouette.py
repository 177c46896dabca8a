"""Silhouettes of a mesh: which pixels it covers, and how they change when its outline moves."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import torch

from viewtime.recon.fitting.hull import view_pixels
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.splats import Viewpoints

SOURCE = Path(__file__).with_name("mesh_cpu.cpp")
SUPERSAMPLE = 2


def cover(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W]: 1 where a pixel centre lies in one of the triangles [T, 3, 2] (pixel coordinates)."""
    library = load_library(SOURCE)
    if library is None:
        return cover_reference(corners, height, width)
    corners = np.ascontiguousarray(corners, dtype=np.float32)
    out = np.zeros((height, width), np.uint8)
    size = [ctypes.c_int64(value) for value in (len(corners), height, width)]
    library.cover_triangles(*size, corners.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
    return out


def cover_reference(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """As `cover`, triangle by triangle in numpy."""
    out = np.zeros((height, width), np.uint8)
    for triangle in np.asarray(corners, np.float32):
        low = np.maximum(np.ceil(triangle.min(0) - 0.5), 0).astype(int)
        high = np.minimum(np.floor(triangle.max(0) - 0.5), [width - 1, height - 1]).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1) + 0.5, np.arange(low[1], high[1] + 1) + 0.5)
        following = np.roll(triangle, -1, axis=0)
        sides = [(q[0] - p[0]) * (y - p[1]) - (x - p[0]) * (q[1] - p[1]) for p, q in zip(triangle, following)]
        area = (triangle[1, 0] - triangle[0, 0]) * (triangle[2, 1] - triangle[0, 1]) - (
            triangle[2, 0] - triangle[0, 0]
        ) * (triangle[1, 1] - triangle[0, 1])
        inside = np.all([side * np.sign(area) >= 0 for side in sides], axis=0) & (area != 0)
        out[low[1] : high[1] + 1, low[0] : high[0] + 1] |= inside.astype(np.uint8)
    return out


def silhouettes(vertices: np.ndarray, triangles: np.ndarray, views: Viewpoints) -> np.ndarray:
    """Share of each pixel covered by the mesh, float32 [B, H, W]; 2 × 2 samples per pixel."""
    pixels = view_pixels(torch.from_numpy(vertices).float(), views).numpy() * SUPERSAMPLE
    H, W, s = views.height, views.width, SUPERSAMPLE
    fine = np.stack([cover(corners.take(triangles, axis=0), H * s, W * s) for corners in pixels])
    # Added plane by plane: a mean over two short axes takes longer than the drawing.
    hits = sum(fine[:, i::s, j::s] for i in range(s) for j in range(s))
    return np.multiply(hits, 1 / s**2, dtype=np.float32)


class Outline:
    """Edges of a closed mesh with their two triangles, to find the outline in any view."""

    def __init__(self, triangles: np.ndarray) -> None:
        self.triangles = triangles
        T = len(triangles)
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        opposite = np.concatenate([triangles[:, 2], triangles[:, 0], triangles[:, 1]])
        face = np.tile(np.arange(T), 3)
        key = np.sort(edges, axis=1)
        order = np.lexsort((key[:, 1], key[:, 0]))
        key, opposite, face = key[order], opposite[order], face[order]
        same = (key[1:] == key[:-1]).all(axis=1)
        first = np.flatnonzero(np.concatenate([[True], ~same]))
        second = np.minimum(first + 1, len(key) - 1)
        paired = (key[second] == key[first]).all(axis=1) & (second != first)
        self.edges, self.opposite = key[first], opposite[first]
        self.first_face, self.second_face = face[first], np.where(paired, face[second], -1)

    def visible(self, pixels: np.ndarray, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges on the outer outline of one picture.

        Args:
            pixels: [P, 2] vertices. covered: [H, W] of the same mesh.

        Returns:
            edge numbers [E], midpoints [E, 2] and outward unit normals [E, 2], pixels.
        """
        corners = pixels[self.triangles]
        a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        front = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0
        turning = (self.second_face < 0) | (front[self.first_face] != front[self.second_face])
        chosen = np.flatnonzero(turning)
        start, end = pixels[self.edges[chosen, 0]], pixels[self.edges[chosen, 1]]
        along = end - start
        length = np.linalg.norm(along, axis=1)
        normal = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.maximum(length, 1e-6)[:, None]
        middle = 0.5 * (start + end)
        inward = ((pixels[self.opposite[chosen]] - middle) * normal).sum(1) > 0
        normal = np.where(inward[:, None], -normal, normal)
        outer = (_at(covered, middle + 0.8 * normal) < 0.5) & (_at(covered, middle - 0.8 * normal) > 0.5)
        kept = outer & (length > 1e-3)
        return chosen[kept], middle[kept], normal[kept]


def _at(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Nearest value; 0 outside."""
    x, y = np.floor(pixels).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    return np.where(inside, image[np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)], 0)


def bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values at pixel coordinates [E, 2], pixel centres at half-integers; edges are repeated."""
    H, W = image.shape
    x, y = np.clip(pixels[:, 0] - 0.5, 0, W - 1.001), np.clip(pixels[:, 1] - 0.5, 0, H - 1.001)
    i, j = x.astype(int), y.astype(int)
    u, v = x - i, y - j
    top = image[j, i] * (1 - u) + image[j, i + 1] * u
    return top * (1 - v) + (image[j + 1, i] * (1 - u) + image[j + 1, i + 1] * u) * v
