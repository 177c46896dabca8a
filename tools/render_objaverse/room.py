"""A room around an asset: floor, walls and boxes with smooth random colours, so that a moving camera sees parallax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .materials import Material
from .pose import Placement, Posed
from .primitives import Part

WALL = 1.3  # from the object's centre to the back wall, in world units (the object's longest side is 1)
HALF_WIDTH = 2.4  # of floor and back wall
HEIGHT = 2.4  # of the walls above the floor
FRONT = -3.2  # where the floor and the side walls end before the object
VERTICES = 97  # along each side of a wall; colours are smooth between them
OCTAVES = ((3, 0.15), (7, 0.12), (17, 0.09), (37, 0.06))  # random values along a side, and their strength
BOXES = 4
CLEAR = 0.62  # radius around the object's axis in which no box stands


def furnished(posed: Posed, placement: Placement, rng: np.random.Generator, azimuth: float = 0.0) -> Posed:
    """The posed asset in a random room that does not move, whose back wall faces cameras at this azimuth.

    Args:
        placement: with which the whole will be drawn; the room has its size in the placed world.
        azimuth: degrees, as `viewtime.cameras` counts it.

    Returns:
        The same asset with one more part; the room's lowest point is the object's lowest over all times.
    """
    floor = float(placement.apply(posed.positions)[..., 2].min())
    points, normals, colours, triangles = _furniture(rng, floor)
    turn = np.deg2rad(azimuth)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    world = points @ rotation.T
    file_points = (world / placement.scale + np.asarray(placement.centre)).astype(np.float32)
    scene = posed.scene
    empty = np.zeros((0, len(points), 3), np.float32)
    part = Part(
        name="room", node=0, skin=None, material=len(scene.materials), positions=file_points,
        normals=(normals @ rotation.T).astype(np.float32), uvs=np.zeros((len(points), 2), np.float32),
        colours=np.concatenate([colours, np.ones((len(points), 1))], axis=1).astype(np.float32), triangles=triangles,
        joints=None, weights=None, morph_positions=empty, morph_normals=empty,
    )  # fmt: skip
    frames = len(posed.times)
    return replace(
        posed,
        scene=replace(scene, parts=[*scene.parts, part], materials=[*scene.materials, Material("room")]),
        parts=[*posed.parts, len(scene.parts)],
        positions=np.concatenate([posed.positions, np.broadcast_to(file_points, (frames, *file_points.shape))], axis=1),
        normals=np.concatenate([posed.normals, np.broadcast_to(part.normals, (frames, *part.normals.shape))], axis=1),
        mirrored=(*posed.mirrored, False) if posed.mirrored else (),
    )


def _furniture(rng: np.random.Generator, floor: float) -> tuple[np.ndarray, ...]:
    """Vertices [N, 3], normals [N, 3], linear colours [N, 3] and triangles [T, 3] of floor, walls and boxes."""
    low, high = floor, floor + HEIGHT
    x, deep = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    up = (0.0, 0.0, 1.0)
    sheets = [
        _sheet(rng, (-HALF_WIDTH, FRONT, low), x, deep, (2 * HALF_WIDTH, WALL - FRONT), VERTICES),
        _sheet(rng, (-HALF_WIDTH, WALL, low), x, up, (2 * HALF_WIDTH, high - low), VERTICES),
        _sheet(rng, (-HALF_WIDTH, FRONT, low), deep, up, (WALL - FRONT, high - low), VERTICES),
        _sheet(rng, (HALF_WIDTH, WALL, low), (0.0, -1.0, 0.0), up, (WALL - FRONT, high - low), VERTICES),
    ]
    for _ in range(BOXES):
        width, depth, height = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.8)
        while True:
            left, front = rng.uniform(-1.3, 1.3), rng.uniform(-0.1, WALL - depth)
            middle = np.array([left + width / 2, front + depth / 2])
            if np.linalg.norm(middle) > CLEAR + 0.5 * np.hypot(width, depth):
                break
        sheets += _box(rng, (left, front, low), (width, depth, height))
    first, triangles = 0, []
    for sheet in sheets:
        triangles.append(sheet[3] + first)
        first += len(sheet[0])
    return (*(np.concatenate([sheet[k] for sheet in sheets]) for k in range(3)), np.concatenate(triangles))


def _box(
    rng: np.random.Generator, corner: tuple[float, float, float], size: tuple[float, float, float]
) -> list[tuple[np.ndarray, ...]]:
    """Front, right, left and upper side of a box that stands on the floor."""
    (left, front, low), (width, depth, height) = corner, size
    x, back, up = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    count = 25
    return [
        _sheet(rng, (left, front, low), x, up, (width, height), count),
        _sheet(rng, (left + width, front, low), back, up, (depth, height), count),
        _sheet(rng, (left, front + depth, low), (0.0, -1.0, 0.0), up, (depth, height), count),
        _sheet(rng, (left, front, low + height), x, back, (width, depth), count),
    ]


def _sheet(
    rng: np.random.Generator,
    corner: tuple[float, float, float],
    along: tuple[float, float, float],
    across: tuple[float, float, float],
    size: tuple[float, float],
    count: int,
) -> tuple[np.ndarray, ...]:
    """A rectangle of count × count vertices with random colours; its normal is along × across."""
    share = np.linspace(0, 1, count)
    u, v = (values.reshape(-1, 1) for values in np.meshgrid(share, share, indexing="ij"))
    points = np.asarray(corner) + u * size[0] * np.asarray(along) + v * size[1] * np.asarray(across)
    normal = np.cross(along, across)
    corners = np.arange(count * count).reshape(count, count)
    a, b, c, d = (
        value.reshape(-1) for value in (corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:])
    )
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    return points, np.broadcast_to(normal, points.shape).copy(), _colours(rng, count), triangles


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Smooth noise of several sizes around a random colour, linear RGB [count * count, 3] in (0, 1)."""
    value = np.broadcast_to(rng.uniform(0.15, 0.6, size=3), (count, count, 3)).copy()
    for values, strength in OCTAVES:
        if values < count:
            value += _stretched(rng.normal(0, strength, size=(values, values, 3)), count)
    return np.clip(value, 0.02, 0.95).reshape(-1, 3)


def _stretched(coarse: np.ndarray, count: int) -> np.ndarray:
    """[n, n, 3] -> [count, count, 3], bilinear."""
    at = np.linspace(0, len(coarse) - 1, count)
    low = np.minimum(at.astype(int), len(coarse) - 2)
    weight = (at - low)[:, None, None]
    rows = coarse[low] * (1 - weight) + coarse[low + 1] * weight
    weight = weight.reshape(1, -1, 1)
    return rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
