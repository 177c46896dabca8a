"""Chamfer distances of moving surfaces as ActionBench takes them (ActionMesh, arXiv 2601.16148): points and tracks."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

QUERIES = 10_000  # points of each side that look for their nearest neighbour among all of the other's


def chamfer(pred: np.ndarray, truth: np.ndarray, queries: int = QUERIES, seed: int = 44) -> float:
    """Mean distance to the nearest point, from the truth to the prediction plus from the prediction to the truth.

    Args:
        pred, truth: [N, 3] and [M, 3] points of one instant, in the same unit as the result.
        queries: points that are drawn of each side to look for a neighbour; the neighbours are all points.
    """
    total = 0.0
    for number, (asking, answering) in enumerate(((pred, truth), (truth, pred))):
        chosen = np.random.default_rng(seed + number).permutation(len(asking))[:queries]
        total += float(KDTree(answering).query(asking[chosen])[0].mean())
    return total


def motion_chamfer(pred: np.ndarray, truth: np.ndarray) -> float:
    """CD-M: neighbours are found in the first instant and kept, so tracks are compared and not shapes.

    Args:
        pred, truth: [T, N, 3] and [T, M, 3]; a row is one point of the surface all the time.
    """
    total = 0.0
    for asking, answering in ((truth, pred), (pred, truth)):
        partner = KDTree(answering[0]).query(asking[0])[1]
        total += sum(
            float(np.linalg.norm(theirs[partner] - mine, axis=-1).mean())
            for mine, theirs in zip(asking, answering, strict=True)
        ) / len(asking)
    return total
