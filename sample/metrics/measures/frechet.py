"""The Fréchet distance between two sets of feature vectors, in a form that cannot turn negative or complex.

With the rows of A and B the centred features over sqrt(n - 1), the covariances are AᵀA and BᵀB and

    tr(AᵀA) + tr(BᵀB) - 2 tr((AᵀA BᵀB)^½)  =  min over orthogonal U of |A - U B|²  (Frobenius),

the orthogonal Procrustes problem, solved by the singular vectors of A Bᵀ. The right side is a sum of squares. No
covariance is formed and no matrix root taken, so fewer samples than dimensions are no special case: the work is
done in min(n, D) dimensions.
"""

from __future__ import annotations

import numpy as np

from viewtime.errors import UserError


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|mean difference|² + trace term (Heusel et al. 2017, equation 6; unbiased covariances), in float64.

    Args:
        first, second: features [n, D] and [m, D]; a single sample has covariance 0.

    Raises:
        UserError: no sample, unequal dimensions, or a value that is not finite.
    """
    first, second = _checked(first, "first"), _checked(second, "second")
    if first.shape[1] != second.shape[1]:
        raise UserError(f"features of {first.shape[1]} and {second.shape[1]} dimensions cannot be compared")
    # Only the difference of the means counts; taking it off first keeps the digits of features far from 0.
    shift = first.mean(axis=0)
    first, second = first - shift, second - shift
    difference = first.mean(axis=0) - second.mean(axis=0)
    a, b = _factor(first), _factor(second)
    rows = max(len(a), len(b))
    a, b = (np.pad(factor, ((0, rows - len(factor)), (0, 0))) for factor in (a, b))
    left, _, right = np.linalg.svd(a @ b.T)
    spread = float(((a - (left @ right) @ b) ** 2).sum())
    total = float(difference @ difference) + spread
    # What is under the rounding of the inputs is no distance: equal sets give 0.
    scale = float((a**2).sum() + (b**2).sum() + shift @ shift) * np.finfo(np.float64).eps
    return total if total > scale * np.finfo(np.float64).eps * rows**2 else 0.0


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not len(features):
        raise UserError(f"the {name} set of features has shape {features.shape}; it must be [samples, dimensions]")
    if not np.isfinite(features).all():
        raise UserError(f"the {name} set of features has values that are not finite")
    return features


def _factor(features: np.ndarray) -> np.ndarray:
    """R [min(n, D), D] with RᵀR the unbiased covariance."""
    n = len(features)
    centred = (features - features.mean(axis=0)) / np.sqrt(max(n - 1, 1))
    return np.asarray(np.linalg.qr(centred, mode="r")) if n > features.shape[1] else centred
