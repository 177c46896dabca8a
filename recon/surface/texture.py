"""A texture that reproduces the pictures: linear least squares over all training cells, as `paint` has it for vertices.

A pixel shows the sum over texels of (share of the pixel) · colour, plus white where the mesh does not cover it. Texels
that no picture sees follow their neighbours and the colour of the vertices.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from einops import rearrange
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack
from scipy.sparse.linalg import cg

from viewtime.errors import UserError
from viewtime.recon.fitting.targets import Targets

from .atlas import PADDING, nearest_of, texel_faces, unfolded
from .mesh import MovingMesh, Texture
from .raster import mesh_hits, texel_shares

SUPERSAMPLE = 2
SMOOTH = 0.3  # pixels' worth of pull towards each neighbour
KEEP = 0.01  # pixels' worth of pull towards the vertices' colour
STEPS = 60  # of conjugate gradients
SIZES = 16, 8192


def textured(mesh: MovingMesh, targets: Targets, size: int) -> MovingMesh:
    """The same mesh, painted, with a texture of size × size texels baked from all views and frames.

    Args:
        mesh: with vertex colours, which decide where no view looks.

    Raises:
        UserError: a size that no graphics card takes.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"--mesh.texture-size {size} is not between {SIZES[0]} and {SIZES[1]} pixels")
    texture = unfolded(mesh, size)
    face, share, gap = texel_faces(texture)
    prior = (share[..., None] * mesh.colour[mesh.triangles[face]]).sum(axis=2)
    solved_for = gap < PADDING / 2
    number = np.where(solved_for, np.cumsum(solved_for).reshape(gap.shape) - 1, -1)
    nearest = nearest_of(solved_for)[1]
    everywhere = number[tuple(nearest)]  # further out the picture repeats, so that coarser reads see no black
    normal, right = _seen(mesh, texture, targets, everywhere.ravel())
    start = prior[solved_for]
    system = (normal + SMOOTH * _neighbours(number) + diags(np.full(len(start), KEEP))).tocsr()
    jacobi = diags(1 / system.diagonal())
    colours = [
        cg(system, right[:, c] + KEEP * start[:, c], x0=start[:, c], M=jacobi, maxiter=STEPS)[0] for c in range(3)
    ]
    picture = (np.stack(colours, axis=1).clip(0, 1) * 255 + 0.5).astype(np.uint8)[everywhere]
    return dataclasses.replace(mesh, texture=dataclasses.replace(texture, picture=picture))


def _seen(mesh: MovingMesh, texture: Texture, targets: Targets, number: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
    """Normal matrix and right side of the pictures, texels of one number taken together."""
    count = int(number.max()) + 1
    normal, right = csr_matrix((count, count)), np.zeros((count, 3))
    for frame in range(targets.shape[1]):
        usable = targets.usable[:, frame].nonzero().flatten()
        views = targets.views[targets.cell(usable, torch.full_like(usable, frame))]
        pictures = rearrange(targets.images[usable, frame, :3].numpy(), "v c h w -> v (h w) c")
        seen = []
        for hits, picture in zip(mesh_hits(mesh.positions[frame], mesh.triangles, views, SUPERSAMPLE), pictures):
            shares = texel_shares(hits, texture, SUPERSAMPLE, nearest=True)
            covered = np.asarray(shares.sum(axis=1))
            shares = csr_matrix((shares.data, number[shares.indices], shares.indptr), shape=(len(picture), count))
            right += shares.T @ (picture - (1 - covered))
            seen.append(shares[np.diff(shares.indptr) > 0])
        together = vstack(seen, format="csr")
        normal = normal + together.T @ together
    return normal, right


def _neighbours(number: np.ndarray) -> csr_matrix:
    """Graph Laplacian of the texels' numbers [R, R], -1 where there is none; neighbours lie beside each other."""
    pairs = [np.stack([one.ravel(), other.ravel()]) for one, other in
             ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:]))]  # fmt: skip
    linked = np.concatenate(pairs, axis=1)
    linked = linked[:, (linked >= 0).all(axis=0)]
    count = int(number.max()) + 1
    links = coo_matrix((np.ones(linked.shape[1]), (linked[0], linked[1])), shape=(count, count)).tocsr()
    links = links + links.T
    return csr_matrix(diags(np.asarray(links.sum(axis=1)).ravel()) - links)
