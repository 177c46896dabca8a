"""Superellipsoids: one family of shapes from balls over cylinders to boxes (Barr, 1981)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RINGS, SECTORS = 8, 12


@dataclass(frozen=True)
class Shape:
    """A solid in a bone's frame.

    Attributes:
        radii: half extents along its own axes x, y, z.
        axes: float [3, 3], columns: its own axes in the bone's frame, right-handed.
        centre: in the bone's frame.
        squareness: exponents along y and around y; 1 is round, 0.2 nearly a box.
        taper: relative change of the cross section from the middle to the ends of y, -1 … 1.
        colour: index into the creature's palette; `underside` of the vertices that look down, None for the same.
    """

    radii: tuple[float, float, float]
    axes: np.ndarray
    centre: np.ndarray
    squareness: tuple[float, float] = (1.0, 1.0)
    taper: float = 0.0
    colour: int = 0
    underside: int | None = None


def surface(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and unit normals in the bone's frame, float32 [N, 3] each, in the order of `triangles`."""
    along, around = shape.squareness
    latitude = np.linspace(-np.pi / 2, np.pi / 2, RINGS)[:, None]
    longitude = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)[None]
    level = _power(np.sin(latitude), along)
    reach = _power(np.cos(latitude), along)
    narrow = 1 + shape.taper * level
    points = np.stack(
        np.broadcast_arrays(
            narrow * reach * _power(np.cos(longitude), around),
            level,
            narrow * reach * _power(np.sin(longitude), around),
        ),
        axis=-1,
    ).reshape(-1, 3)
    points = (points * shape.radii) @ shape.axes.T + shape.centre
    corners = points[triangles()]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles()[:, corner], faces)
    # The vertices of a pole coincide: they share one normal.
    for pole in (slice(0, SECTORS), slice(-SECTORS, None)):
        normals[pole] = normals[pole].sum(axis=0)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return points.astype(np.float32), normals.astype(np.float32)


@lru_cache(maxsize=1)
def triangles() -> np.ndarray:
    """int32 [T, 3] of every `surface`, counter-clockwise from outside."""
    ring, sector = np.meshgrid(np.arange(RINGS - 1), np.arange(SECTORS), indexing="ij")
    low, low_next = ring * SECTORS + sector, ring * SECTORS + (sector + 1) % SECTORS
    high, high_next = low + SECTORS, low_next + SECTORS
    first = np.stack([low, high, low_next], axis=-1)
    second = np.stack([low_next, high, high_next], axis=-1)
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)]).astype(np.int32)


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(values) * np.abs(values) ** exponent
