"""A matcher without weights as a confidence plug-in: SIFT and RANSAC, to be called by
`--confidence-plugin viewtime.sample.metrics.networks.sift:SiftConfidence`.

It has the interface that GIM and DUSt3R are plugged in by, and is no stand-in for their numbers.
"""

from __future__ import annotations

import itertools
from importlib.metadata import version

import numpy as np
import torch
from skimage.feature import SIFT, match_descriptors
from skimage.measure import ransac
from skimage.transform import FundamentalMatrixTransform
from torch import Tensor

EIGHT = 8  # points that determine a fundamental matrix


class SiftConfidence:
    """Per keypoint of a view: how well its match in the next view obeys the geometry of two views, 0 where it has none.

    Matches are mutual nearest descriptors below the ratio; RANSAC fits a fundamental matrix to them. A match at
    Sampson distance d pixels from it has the confidence exp(-d / `pixels`).

    Args:
        ratio: Lowe's test.
        pixels: residual below which RANSAC counts a match, and unit of the confidence.
        seed: of RANSAC.
    """

    name = "SIFT-Confidence"
    thresholds = (0.1, 0.5, 0.9)

    def __init__(self, ratio: float = 0.8, pixels: float = 1.0, seed: int = 0) -> None:
        self.ratio, self.pixels, self.seed = ratio, pixels, seed
        self.protocol = (
            f"scikit-image {version('scikit-image')} SIFT, ratio {ratio}, fundamental matrix by RANSAC within "
            f"{pixels} px, neighbouring views at the grid's size, share of keypoints; seed {seed}"
        )

    def __call__(self, video: Tensor) -> Tensor:
        """Images of one instant [V, 3, H, W] in [0, 1] -> a confidence per keypoint of all views but the last."""
        grey = video.double().cpu().mean(dim=1).numpy()
        found = [_keypoints(picture) for picture in grey]
        pairs = [self._confidence(*one, *two) for one, two in itertools.pairwise(found)]
        known = np.concatenate(pairs) if pairs else np.zeros(0)
        return torch.from_numpy(known if len(known) else np.zeros(1))

    def _confidence(
        self, points: np.ndarray, described: np.ndarray, other: np.ndarray, other_described: np.ndarray
    ) -> np.ndarray:
        confidence = np.zeros(len(points))
        if min(len(points), len(other)) < EIGHT:
            return confidence
        matches = match_descriptors(described, other_described, max_ratio=self.ratio, cross_check=True)
        if len(matches) <= EIGHT:
            return confidence
        ends = points[matches[:, 0]], other[matches[:, 1]]
        model, _ = ransac(
            ends, FundamentalMatrixTransform, EIGHT, self.pixels, max_trials=200, rng=np.random.default_rng(self.seed)
        )
        if model is not None:
            confidence[matches[:, 0]] = np.exp(-np.abs(model.residuals(*ends)) / self.pixels)
        return confidence


def _keypoints(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (x, y) [N, 2] and descriptors [N, 128] of a grey picture; none where nothing stands out."""
    detector = SIFT()
    try:
        detector.detect_and_extract(picture)
    except RuntimeError:  # scikit-image's word for a picture without keypoints
        return np.zeros((0, 2)), np.zeros((0, 128))
    return np.asarray(detector.keypoints, float)[:, ::-1], np.asarray(detector.descriptors)
