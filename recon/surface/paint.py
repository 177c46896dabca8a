"""Vertex colours that reproduce the pictures: linear least squares over all training cells.

A pixel shows the sum over vertices of (share of the pixel) · colour, plus white where the mesh does not cover it, so
the best colours solve a sparse linear system. Blended from the Gaussians alone they would be blurred.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from einops import rearrange
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import splu

from viewtime.recon.fitting.targets import Targets

from .mesh import MovingMesh
from .raster import mesh_hits, vertex_shares
from .refine import laplacian

SUPERSAMPLE = 2
SMOOTH = 0.02  # pixels' worth of pull towards the neighbours' mean
KEEP = 0.01  # pixels' worth of pull towards the colour before, which decides where no view looks


def paint(mesh: MovingMesh, targets: Targets) -> MovingMesh:
    """The same mesh with the colours that fit the training cells best."""
    P, F = mesh.positions.shape[1], targets.shape[1]
    normal, right = csc_matrix((P, P)), np.zeros((P, 3))
    for frame in range(F):
        usable = targets.usable[:, frame].nonzero().flatten()
        views = targets.views[targets.cell(usable, torch.full_like(usable, frame))]
        pictures = rearrange(targets.images[usable, frame, :3].numpy(), "v c h w -> v (h w) c")
        for hits, picture in zip(mesh_hits(mesh.positions[frame], mesh.triangles, views, SUPERSAMPLE), pictures):
            shares = vertex_shares(hits, mesh.triangles, P, SUPERSAMPLE)
            covered = np.asarray(shares.sum(axis=1))
            normal = normal + shares.T @ shares
            right += shares.T @ (picture - (1 - covered))
    system = normal + SMOOTH * laplacian(mesh.triangles, P) + KEEP * diags(np.ones(P))
    colour = splu(csc_matrix(system)).solve(right + KEEP * mesh.colour)
    return dataclasses.replace(mesh, colour=np.clip(colour, 0, 1).astype(np.float32))
