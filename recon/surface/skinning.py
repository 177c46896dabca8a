"""A moving mesh as joints that carry it: smooth skinning decomposition (Le and Deng 2012) of any vertex animation.

It takes the mesh as it is after refinement, from whatever motion model, and alternates between the joints' rigid paths
and the weights by which each vertex hangs on its four nearest joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from viewtime.recon.fitting.points import farthest_points

from .mesh import MovingMesh

INFLUENCES = 4  # glTF's number of joints per vertex
ROUNDS = 6


@dataclass(frozen=True)
class Skin:
    """Linear blend skinning of one mesh.

    Attributes:
        centres: [J, 3], the joints at frame 0, where none is turned.
        rotations: [F, J, 3, 3]. places: [F, J, 3], of the joints.
        index, weight: [P, 4], the joints of each vertex; the weights of a vertex sum to 1.
    """

    centres: np.ndarray
    rotations: np.ndarray
    places: np.ndarray
    index: np.ndarray
    weight: np.ndarray

    def pose(self, rest: np.ndarray) -> np.ndarray:
        """Rest positions [P, 3] -> positions [F, P, 3]."""
        return (self.weight[None, ..., None] * self._carried(rest)).sum(axis=2)

    def _carried(self, rest: np.ndarray) -> np.ndarray:
        """Where each of its joints alone would take each vertex, [F, P, 4, 3]."""
        local = rest[:, None] - self.centres[self.index]
        turned = np.einsum("fpkij,pkj->fpki", self.rotations[:, self.index], local)
        return turned + self.places[:, self.index]


def skin_mesh(mesh: MovingMesh, joints: int) -> Skin:
    """Joints and weights that reproduce the mesh's positions as well as rigid joints can."""
    positions = mesh.positions.astype(np.float64)
    rest = positions[0]
    chosen = farthest_points(torch.from_numpy(rest).float(), joints).numpy()
    centres = rest[chosen]
    distance, index = cKDTree(centres).query(rest, k=min(INFLUENCES, len(centres)))
    distance, index = distance.reshape(len(rest), -1), index.reshape(len(rest), -1)
    weight = np.exp(-0.5 * (distance / max(distance.mean(), 1e-9)) ** 2) + 1e-6
    skin = Skin(
        centres, np.tile(np.eye(3), (len(positions), len(centres), 1, 1)), np.tile(centres, (len(positions), 1, 1)),
        index, weight / weight.sum(axis=1, keepdims=True),
    )  # fmt: skip
    for _ in range(ROUNDS):
        skin = _fit_weights(_fit_joints(skin, positions), positions)
    return _fit_joints(skin, positions)


def _fit_joints(skin: Skin, positions: np.ndarray) -> Skin:
    """One sweep over the joints: each takes the rigid path that explains what the others leave (weighted Kabsch)."""
    rest, rotations, places = positions[0], skin.rotations.copy(), skin.places.copy()
    carried = skin._carried(rest)
    total = (skin.weight[None, ..., None] * carried).sum(axis=2)
    for joint in range(len(skin.centres)):
        vertex, slot = np.nonzero(skin.index == joint)
        w = skin.weight[vertex, slot]
        if (w > 1e-3).sum() < 3:
            continue
        own = w[None, :, None] * carried[:, vertex, slot]
        wanted = positions[:, vertex] - total[:, vertex] + own  # w · (R (v - c) + p) should be this
        square = (w**2).sum()
        source = rest[vertex] - skin.centres[joint]
        mean_source = (w[:, None] ** 2 * source).sum(0) / square
        mean_wanted = (w[None, :, None] * wanted).sum(1) / square
        residual = wanted - w[None, :, None] * mean_wanted[:, None]
        cross = np.einsum("fni,nj->fij", w[None, :, None] * residual, source - mean_source)
        u, _, vt = np.linalg.svd(cross + 1e-6 * square * rotations[:, joint])
        flip = np.ones((len(positions), 3))
        flip[:, 2] = np.sign(np.linalg.det(u @ vt))
        rotation = (u * flip[:, None]) @ vt
        place = mean_wanted - rotation @ mean_source
        rotation[0], place[0] = np.eye(3), skin.centres[joint]
        moved = np.einsum("fij,nj->fni", rotation, source) + place[:, None]
        total[:, vertex] += w[None, :, None] * moved - own
        carried[:, vertex, slot] = moved
        rotations[:, joint], places[:, joint] = rotation, place
    return Skin(skin.centres, rotations, places, skin.index, skin.weight)


def _fit_weights(skin: Skin, positions: np.ndarray, pull: float = 1e-3) -> Skin:
    """Least squares per vertex, weights summing to 1, pulled to the ones before; negative ones are cut off."""
    carried = skin._carried(positions[0])
    base = carried[:, :, -1:]
    basis = np.einsum("fpki->pfik", carried[:, :, :-1] - base).reshape(len(skin.index), -1, skin.index.shape[1] - 1)
    wanted = np.einsum("fpi->pfi", positions - base[:, :, 0]).reshape(len(skin.index), -1, 1)
    if basis.shape[2] == 0:
        return skin
    normal = basis.transpose(0, 2, 1) @ basis
    scale = pull * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-12
    right = basis.transpose(0, 2, 1) @ wanted + scale * skin.weight[:, :-1, None]
    first = np.linalg.solve(normal + scale * np.eye(basis.shape[2]), right)[..., 0]
    weight = np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1).clip(0)
    return Skin(skin.centres, skin.rotations, skin.places, skin.index, weight / weight.sum(axis=1, keepdims=True))


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """[F, J, 3, 3] -> (x, y, z, w) [F, J, 4], each with the sign nearest its predecessor's, for players that blend."""
    F, J = rotations.shape[:2]
    result = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(F, J, 4)
    for frame in range(1, F):
        against = (result[frame] * result[frame - 1]).sum(axis=1) < 0
        result[frame, against] *= -1
    return result
