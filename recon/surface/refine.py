"""Move a mesh onto the masks.

The derivative of sum (silhouette - mask)² with respect to a displacement of the outline is an integral along the
outline: a point with outward normal n contributes (1 - 2 mask) n (Reynolds' transport theorem). It is exact for hard
silhouettes and needs no soft renderer. Near the true outline the bilinear mask falls by about 1 per pixel, so half of
(2 mask - 1) is the Newton step in pixels.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.linalg import splu

from viewtime.recon.fitting.hull import view_pixels
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.compiled import address, addresses, load_library
from viewtime.recon.render.splats import Viewpoints

from .mesh import MovingMesh
from .silhouette import SOURCE, Outline, bilinear, silhouettes

STIFFNESS = 2.0
LARGEST_STEP = 0.5  # pixels


def laplacian(triangles: np.ndarray, vertices: int) -> csc_matrix:
    """Graph Laplacian [P, P] of a mesh."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    links = coo_matrix((np.ones(len(edges)), edges.T), shape=(vertices, vertices)).tocsc()
    links = ((links + links.T) > 0).astype(np.float64)
    return csc_matrix(diags(np.asarray(links.sum(axis=1)).ravel()) - links)


def outline_forces(
    vertices: np.ndarray, outline: Outline, masks: np.ndarray, views: Viewpoints
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted world displacements [P, 3] that bring the outline onto masks [B, H, W], and their weights [P]."""
    library = load_library(SOURCE)
    if library is None:
        return outline_forces_reference(vertices, outline, masks, views)
    pull, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    pixels, depth, rotation = _seen(vertices, views)
    covered, masks = silhouettes(vertices, outline.triangles, views), np.ascontiguousarray(masks, np.float32)
    numbers = (outline.triangles, outline.edges, outline.opposite, outline.first_face, outline.second_face)
    index = [np.ascontiguousarray(values, np.int64) for values in numbers]
    size = (ctypes.c_int64 * 5)(len(vertices), len(index[0]), len(index[1]), views.height, views.width)
    for b in range(len(views)):
        place, pictures = [pixels[b], depth[b], rotation[b]], [covered[b], masks[b]]
        library.outline_forces(
            size, addresses(index), addresses(place), ctypes.c_double(float(views.focal[b])),
            ctypes.c_double(LARGEST_STEP), addresses(pictures), address(pull), address(weight),
        )  # fmt: skip
    return pull, weight


def _seen(vertices: np.ndarray, views: Viewpoints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [B, P, 2], depths [B, P] and the first two rows [B, 2, 3] of the cameras' rotations, float64."""
    matrices = views.world_to_camera.double()
    exact = Viewpoints(matrices, views.focal.double(), views.centre.double(), views.height, views.width)
    points = torch.from_numpy(np.asarray(vertices, np.float64))
    depth = matrices[:, 2, :3] @ points.T + matrices[:, 2, 3:]
    return view_pixels(points, exact).contiguous().numpy(), depth.numpy(), matrices[:, :2, :3].contiguous().numpy()


def outline_forces_reference(
    vertices: np.ndarray, outline: Outline, masks: np.ndarray, views: Viewpoints
) -> tuple[np.ndarray, np.ndarray]:
    """As `outline_forces`, in numpy."""
    pull, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    pixels, depth, rotation = _seen(vertices, views)
    covered = silhouettes(vertices, outline.triangles, views)
    for b in range(len(views)):
        edges, middle, normal = outline.visible(pixels[b], covered[b])
        step = np.clip(bilinear(masks[b], middle) - 0.5, -LARGEST_STEP, LARGEST_STEP)
        world = (normal @ rotation[b]) * step[:, None] / float(views.focal[b])
        for end in range(2):
            vertex = outline.edges[edges, end]
            np.add.at(pull, vertex, world * depth[b, vertex][:, None])
            np.add.at(weight, vertex, 1.0)
    return pull, weight


def refine(mesh: MovingMesh, targets: Targets, iterations: int) -> MovingMesh:
    """Bring the silhouettes at every frame nearer to the masks.

    A displacement per vertex and frame, smooth over the surface (Laplacian) and over neighbouring frames, so that the
    tracks stay tracks.
    """
    positions = mesh.positions.astype(np.float64)
    F, P, _ = positions.shape
    outline = Outline(mesh.triangles)
    stiffness = STIFFNESS * laplacian(mesh.triangles, P)
    masks = targets.images[:, :, 3].numpy()
    for _ in range(iterations):
        pulls, weights = np.zeros((F, P, 3)), np.zeros((F, P))
        for frame in range(F):
            usable = targets.usable[:, frame].nonzero().flatten()
            views = targets.views[targets.cell(usable, torch.full_like(usable, frame))]
            pulls[frame], weights[frame] = outline_forces(
                positions[frame], outline, masks[usable.numpy(), frame], views
            )
        pulls, weights = _over_time(pulls), _over_time(weights)
        for frame in range(F):
            solver = splu(csc_matrix(diags(weights[frame] + 1e-2) + stiffness))
            positions[frame] += solver.solve(pulls[frame])
    return mesh.with_positions(positions)


def _over_time(values: np.ndarray) -> np.ndarray:
    """Each frame with a quarter of each neighbour."""
    if len(values) < 2:
        return values
    padded = np.concatenate([values[:1], values, values[-1:]])
    return values + 0.25 * (padded[:-2] + padded[2:])
