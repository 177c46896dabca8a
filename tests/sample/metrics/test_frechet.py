"""The Fréchet distance against a float64 reference, against closed forms, and where the textbook form breaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viewtime.errors import UserError
from viewtime.sample.metrics.measures.frechet import frechet_distance


def reference(first: np.ndarray, second: np.ndarray) -> float:
    """The textbook form, the root taken through the eigenvalues of two symmetric matrices."""
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    middle = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)).sum()
    difference = first.mean(0) - second.mean(0)
    return float(difference @ difference + sum(np.trace(c) for c in covariances) - 2 * middle)


@pytest.mark.parametrize(("n", "m", "D"), [(400, 300, 12), (2000, 2000, 64), (50, 60, 20), (70, 90, 64)])
def test_equals_the_float64_reference(n: int, m: int, D: int) -> None:
    rng = np.random.default_rng(n + D)
    mix = rng.normal(size=(D, D))
    first, second = rng.normal(size=(n, D)) @ mix, rng.normal(size=(m, D)) @ mix * 1.3 + rng.normal(size=D)
    assert frechet_distance(first, second) == pytest.approx(reference(first, second), rel=1e-6)


def test_one_dimension_has_a_closed_form() -> None:
    """(difference of means)² + (difference of standard deviations)²."""
    first, second = np.array([[0.0], [2.0], [4.0]]), np.array([[10.0], [11.0]])
    deviations = 2.0 - np.sqrt(0.5)
    assert frechet_distance(first, second) == pytest.approx(8.5**2 + deviations**2, rel=1e-12)


def test_fewer_samples_than_dimensions_equals_a_higher_precision_reference() -> None:
    """Seven samples in 400 dimensions span at most 12: rotated into those, the reference has full precision."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 400)), 0.7 * rng.normal(size=(7, 400)) + 0.05
    basis = np.linalg.qr(np.concatenate([first, second]).T)[0]  # [400, 14], spans both sets
    small = reference(first @ basis, second @ basis)
    assert frechet_distance(first, second) == pytest.approx(small, rel=1e-6)


def test_one_sample_each_is_the_squared_distance() -> None:
    assert frechet_distance(np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])) == pytest.approx(25.0)


def test_equal_sets_give_zero_in_any_order() -> None:
    rng = np.random.default_rng(1)
    for n, D in ((5, 300), (300, 40), (40, 40)):
        features = rng.normal(size=(n, D)) + 100.0
        assert frechet_distance(features, features) == 0.0
        assert frechet_distance(features, rng.permutation(features)) == pytest.approx(0.0, abs=1e-18)


def test_small_distances_are_not_lost_to_cancellation() -> None:
    """The traces are 1e4 and the distance 1e-10: subtracting them, as is usual, would leave rounding."""
    rng = np.random.default_rng(2)
    features = 10 * rng.normal(size=(500, 100))
    assert frechet_distance(features, features * (1 + 1e-7)) == pytest.approx(
        1e-14 * (np.trace(np.cov(features, rowvar=False)) + (features.mean(0) ** 2).sum()), rel=1e-4
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16), st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_never_negative_complex_or_nan_and_symmetric(n: int, m: int, D: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    first = scale * rng.normal(size=(n, D)) @ np.diag(10.0 ** rng.uniform(-8, 1, D))
    second = rng.normal(size=(m, D)) + rng.normal(size=D)
    value = frechet_distance(first, second)
    assert isinstance(value, float)
    assert value >= 0.0
    assert value == pytest.approx(frechet_distance(second, first), rel=1e-6, abs=1e-12)


def test_refusals() -> None:
    with pytest.raises(UserError, match="3 and 4 dimensions"):
        frechet_distance(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(np.array([[np.nan]]), np.zeros((2, 1)))
    with pytest.raises(UserError, match="samples, dimensions"):
        frechet_distance(np.zeros((0, 3)), np.zeros((2, 3)))
