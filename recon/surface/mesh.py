"""From moving Gaussians to one mesh whose vertices move."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes, mesh_surface_area

from viewtime.errors import UserError
from viewtime.recon.render.compiled import address, load_library
from viewtime.recon.render.moving import FLATTEST, MovingGaussians

from .manifold import decimated
from .silhouette import SOURCE

FRAMES_TRIED, TRIED_RESOLUTION = 7, 64  # in the search for the frame in which parts touch least
MOST_VALUES = 3e10  # of densities that are summed, which takes minutes
THINNEST = 0.4  # standard deviation of the blur that a volume gets, in voxels


@dataclass(frozen=True)
class Texture:
    """A picture on the surface; a vertex on a seam has several corners, each with its own place in the picture.

    Attributes:
        vertex: [C] int, the vertex of each corner. triangles: [T, 3] int of corners, in the order of the mesh's own.
        uv: [C, 2] in [0, 1], from the picture's upper left as glTF has it.
        picture: uint8 [R, R, 3].
    """

    vertex: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    picture: np.ndarray


@dataclass(frozen=True)
class MovingMesh:
    """positions: [F, P, 3] float32 world; triangles: [T, 3] int; colour: [P, 3] in [0, 1]; fps; texture, if painted."""

    positions: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray
    fps: float
    texture: Texture | None = None

    def with_positions(self, positions: np.ndarray) -> MovingMesh:
        """The same surface in other places."""
        return replace(self, positions=positions.astype(np.float32))


class Density(NamedTuple):
    """Values [X, Y, Z] on a voxel block, centre of voxel 0 [3], spacing; of which frame."""

    volume: np.ndarray
    low: np.ndarray
    spacing: float
    frame: int


def density_volume(asset: MovingGaussians, frame: int, resolution: int) -> Density:
    """Sum of the Gaussians' densities at a frame.

    Raises:
        UserError: so many reach over so much of the volume that more than `MOST_VALUES` are to be summed.
    """
    means = asset.means[frame].numpy()
    covariance = covariance_of(asset, frame)
    extent = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    margin = 3 * float(extent.max())
    low, high = means.min(0) - margin, means.max(0) + margin
    spacing = float((high - low).max()) / resolution
    low = low - 2 * spacing
    shape = np.ceil((high - low) / spacing).astype(int) + 3
    volume = np.zeros(shape, np.float32)
    # Thinner than the voxels would fall between them.
    covariance = covariance + (THINNEST * spacing) ** 2 * np.eye(3)
    reach = np.ceil(3 * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)) / spacing).astype(int)
    inverse = np.linalg.inv(covariance)
    centre = np.round((means - low) / spacing).astype(int)
    first, last = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
    work = float((last - first).clip(min=0).astype(float).prod(axis=1).sum())
    if work > MOST_VALUES:
        raise UserError(
            f"{len(means)} Gaussians reach over {work / len(means):.3g} of the {volume.size:.3g} voxels each, "
            f"{work:.3g} values in all; at most {MOST_VALUES:.0e} are summed: they are too large to show a surface; "
            "lower --mesh.resolution, or take --formats gaussian_ply, spz, splat, view or turntable"
        )
    add_densities(volume, (means, inverse, asset.opacity.numpy()), (first, last), low, spacing)
    return Density(volume, low, spacing, frame)


def add_densities(
    volume: np.ndarray,
    gaussians: tuple[np.ndarray, np.ndarray, np.ndarray],
    boxes: tuple[np.ndarray, np.ndarray],
    low: np.ndarray,
    spacing: float,
) -> None:
    """Add each Gaussian's density to the voxels of its box.

    Args:
        volume: float32 [X, Y, Z], voxel 0 at `low` [3].
        gaussians: means [N, 3], inverse covariances [N, 3, 3], opacities [N].
        boxes: first and last voxels (not included) [N, 3] each.
    """
    library = load_library(SOURCE)
    if library is None:
        add_densities_reference(volume, gaussians, boxes, low, spacing)
        return
    means, inverse, opacity = (np.ascontiguousarray(a, kind) for a, kind in zip(gaussians, (float, float, np.float32)))
    first, last, shape = (np.ascontiguousarray(value, np.int64) for value in (*boxes, volume.shape))
    low = np.ascontiguousarray(low, float)
    library.density_volume(
        ctypes.c_int64(len(means)), *[address(a) for a in (means, inverse, opacity, first, last, low)],
        ctypes.c_double(spacing), address(shape), address(volume),
    )  # fmt: skip


def add_densities_reference(
    volume: np.ndarray,
    gaussians: tuple[np.ndarray, np.ndarray, np.ndarray],
    boxes: tuple[np.ndarray, np.ndarray],
    low: np.ndarray,
    spacing: float,
) -> None:
    """As `add_densities`, Gaussian by Gaussian in numpy."""
    for mean, sharp, opacity, start, end in zip(*gaussians, *boxes):
        x, y, z = (np.arange(a, b) * spacing + origin - m for a, b, origin, m in zip(start, end, low, mean))
        x, y, z = x[:, None, None], y[None, :, None], z[None, None]
        square = sharp[0, 0] * x * x + sharp[1, 1] * y * y + sharp[2, 2] * z * z
        square = square + 2 * (sharp[0, 1] * x * y + sharp[0, 2] * x * z + sharp[1, 2] * y * z)
        volume[start[0] : end[0], start[1] : end[1], start[2] : end[2]] += opacity * np.exp(-0.5 * square)


def covariance_of(asset: MovingGaussians, frame: int) -> np.ndarray:
    """[N, 3, 3] at a frame, in world units squared; of isotropic Gaussians too."""
    covariance = asset.at(float(frame))[1]
    if covariance.shape[-1] == 1:
        covariance = covariance[..., None] * torch.eye(3)
    return covariance.numpy()


def surface(volume: np.ndarray, level: float) -> np.ndarray:
    """Density with its cavities filled, so that the surface has one outer shell."""
    filled = np.asarray(ndimage.binary_fill_holes(volume > level))
    return np.where(filled, np.maximum(volume, 2 * level), volume)


def most_open(asset: MovingGaussians, level: float = 0.5) -> int:
    """The frame, of some, whose surface is the largest for its volume.

    What touches in one frame must not be one surface in all: a web would hang between legs that part. Where parts
    touch, there is less surface and more volume.
    """
    openness = {}
    for frame in range(0, asset.frames, max(1, asset.frames // FRAMES_TRIED)):
        volume = surface(density_volume(asset, frame, TRIED_RESOLUTION).volume, level)
        if volume.max() > level:
            vertices, triangles, _, _ = marching_cubes(volume, level)
            openness[frame] = mesh_surface_area(vertices, triangles) / (volume > level).sum() ** (2 / 3)
    return max(openness, key=lambda frame: openness[frame], default=0)


def level_surface(density: Density, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [P, 3], world, and triangles [T, 3] where the density is `level` (marching cubes).

    Raises:
        UserError: no voxel reaches the level.
    """
    volume, low, spacing, _ = density
    if volume.max() <= level:
        raise UserError(
            f"the density of the Gaussians never reaches {level:g} (largest {volume.max():.3g}): no surface to extract"
        )
    vertices, triangles, _, _ = marching_cubes(surface(volume, level), level)
    return largest_parts(vertices.astype(np.float32) * spacing + low.astype(np.float32), triangles)


def extract_mesh(
    asset: MovingGaussians,
    *,
    level: float = 0.5,
    resolution: int = 128,
    faces: int = 10000,
    base: int = 0,
    density: Density | None = None,
) -> MovingMesh:
    """The surface of one frame, whose vertices are carried by the Gaussians around them.

    Args:
        level: density of the surface. faces: number of triangles to decimate to. base: that frame.
        density: of that frame, where it is known already.

    Raises:
        UserError: no voxel reaches the level, or the asset is a scene, seen from one side.
    """
    if "path" in asset.info:
        raise UserError(
            "a scene was seen from one side and has no closed surface; --formats gaussian_ply, spz, splat, orbit, "
            "depth and normal export it"
        )
    density = density or density_volume(asset, base, resolution)
    vertices, triangles = decimated(*level_surface(density, level), faces)
    positions, colour = carry(asset, vertices, base=density.frame)
    return MovingMesh(positions, triangles[:, ::-1].astype(np.int64), colour, asset.fps)


def largest_parts(vertices: np.ndarray, triangles: np.ndarray, share: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Without connected pieces of less than `share` of the triangles."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(vertices),) * 2)
    _, label = connected_components(graph, directed=False)
    counts = np.bincount(label[triangles[:, 0]])
    kept = triangles[counts[label[triangles[:, 0]]] >= share * len(triangles)]
    used, flat = np.unique(kept, return_inverse=True)
    return vertices[used], flat.reshape(-1, 3)


def carry(
    asset: MovingGaussians,
    vertices: np.ndarray,
    neighbours: int = 24,
    base: int = 0,
    frames: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Move a frame's vertices [P, 3] with the Gaussians around them: positions [F, P, 3] and colours [P, 3].

    With `frames` positions at these alone.

    Each neighbour carries the vertex by its own affine map, so that limbs turn and do not shear; it weighs what its
    density weighs at the vertex. What a frame squashes flat cannot say how it came there, and carries nothing.

    Raises:
        UserError: that frame squashes all of them.
    """
    to_canonical, singular = torch.linalg.inv_ex(asset.linear[base])
    carrying = (singular == 0) & to_canonical.isfinite().all(dim=2).all(dim=1)
    if not carrying.any():
        raise UserError(
            f"frame {base} squashes all {len(carrying)} Gaussians flat (their linear maps have no inverse), and what "
            "follows them cannot move: reconstruct the asset again, or take --formats gaussian_ply, spz or splat"
        )
    if not carrying.all():
        return carry(_some(asset, carrying), vertices, neighbours, base, frames)
    canonical = asset.means[base]
    _, index = cKDTree(canonical.numpy()).query(vertices, k=min(neighbours, len(canonical)))
    index = torch.from_numpy(index).reshape(len(vertices), -1)  # one neighbour comes without an axis of its own
    covariance = torch.from_numpy(covariance_of(asset, base)).double() + FLATTEST * torch.eye(3)
    inverse = torch.linalg.inv(covariance).float()[index]
    offset = torch.from_numpy(vertices).float()[:, None] - canonical[index]
    square = ((inverse * offset[..., None, :]).sum(-1) * offset).sum(-1)
    weight = torch.softmax(asset.opacity[index].clamp_min(1e-6).log() - 0.5 * square, dim=1)
    places = torch.from_numpy(vertices).float()
    positions = []
    for frame in range(asset.frames) if frames is None else frames:
        turn = asset.linear[frame] @ to_canonical
        shift = asset.means[frame] - (turn * canonical[:, None]).sum(-1)
        maps = torch.cat([turn.flatten(1), shift], dim=1)
        blended = F.embedding_bag(index, maps, per_sample_weights=weight, mode="sum")
        positions.append((blended[:, :9].unflatten(1, (3, 3)) * places[:, None]).sum(-1) + blended[:, 9:])
    colour = (weight[..., None] * asset.colour[index]).sum(dim=1)
    return torch.stack(positions).numpy().astype(np.float32), colour.clamp(0, 1).numpy()


def _some(asset: MovingGaussians, chosen: torch.Tensor) -> MovingGaussians:
    """The Gaussians that a mask [N] chooses."""
    return MovingGaussians(
        asset.means[:, chosen], asset.covariance[chosen], asset.opacity[chosen], asset.colour[chosen],
        asset.linear[:, chosen], asset.fps, asset.info,
    )  # fmt: skip
