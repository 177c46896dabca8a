"""Which joint hangs on which, and where: found from how the joints of a skin move.

Two neighbouring joints that turn about a common point leave that point where it is, seen from either (Le and Deng 2014,
"Robust and accurate skeletal rigging from mesh sequences"). The tree is the one of least disagreement, rooted at the
joint that halves the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from .skinning import Skin

ANCHOR = 1e-3  # weight of the place between two joints, where their motion leaves a direction of the pivot open
FAR = 0.05  # world units of disagreement that a world unit between two joints counts
APART = 10.0  # the same between joints that carry no common vertex


@dataclass(frozen=True)
class Skeleton:
    """parents: [J] int, -1 for the root; pivots: [J, 3], the point at frame 0 about which each turns on its parent."""

    parents: np.ndarray
    pivots: np.ndarray


def skeleton_of(skin: Skin) -> Skeleton:
    """The tree of a skin's joints."""
    J = len(skin.centres)
    if J == 1:
        return Skeleton(np.array([-1]), skin.centres.copy())
    hang = np.zeros((len(skin.index), J))
    np.add.at(hang, (np.arange(len(hang))[:, None], skin.index), skin.weight)
    common = hang.T @ hang
    first, second = np.triu_indices(J, 1)
    pivots, disagreement = _pivots(skin, first, second)
    distance = np.linalg.norm(skin.centres[first] - skin.centres[second], axis=1)
    touching = common[first, second] > 1e-3 * np.minimum(common[first, first], common[second, second])
    cost = np.zeros((J, J))
    cost[first, second] = disagreement + np.where(touching, FAR, APART) * distance + 1e-9
    tree = minimum_spanning_tree(cost)
    links = ((tree + tree.T) > 0).toarray()
    order, parents = breadth_first_order(links, _middle(links, hang.sum(axis=0)), directed=False)
    parents = np.where(parents < 0, -1, parents)
    pair = np.zeros((J, J), int)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    places = np.stack([pivots[pair[joint, parents[joint]]] for joint in range(J)])
    places[order[0]] = skin.centres[order[0]]
    return Skeleton(parents, places)


def _pivots(skin: Skin, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per pair: the point that both joints carry to the same places most nearly, [N, 3], and how far apart (RMS)."""
    shift = skin.places - np.einsum("fjik,jk->fji", skin.rotations, skin.centres)
    turn = skin.rotations[:, first] - skin.rotations[:, second]
    gap = shift[:, second] - shift[:, first]
    middle = 0.5 * (skin.centres[first] + skin.centres[second])
    weight = ANCHOR * len(turn)
    normal = np.einsum("fnki,fnkj->nij", turn, turn) + weight * np.eye(3)
    right = np.einsum("fnki,fnk->ni", turn, gap) + weight * middle
    pivots = np.linalg.solve(normal, right[..., None])[..., 0]
    left = np.einsum("fnij,nj->fni", turn, pivots) - gap
    return pivots, np.sqrt((left**2).sum(axis=2).mean(axis=0))


def _middle(links: np.ndarray, mass: np.ndarray) -> int:
    """The joint whose removal leaves the lightest heaviest part."""
    order, parents = breadth_first_order(links, 0, directed=False)
    below = mass.copy()
    for joint in order[:0:-1]:
        below[parents[joint]] += below[joint]
    heaviest = mass.sum() - below
    for joint in order[1:]:
        heaviest[parents[joint]] = max(heaviest[parents[joint]], below[joint])
    return int(np.argmin(heaviest))
