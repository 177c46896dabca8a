"""Which frame an even clock shows, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from viewtime.timing import even_times


@pytest.mark.parametrize(
    ("times", "last", "indices", "rate", "uneven"),
    [
        ([], None, [], 0, False),
        ([3.0], None, [0], 0, False),
        ([0, 0.1, 0.2, 0.3], None, [0, 1, 2, 3], 10, False),
        ([1.0, 1.1, 1.2], 0.1, [0, 1, 2], 10, False),
        ([0, 0.11, 0.2, 0.31], None, [0, 1, 2, 3], 3 / 0.31, False),  # within a quarter: a container's rounding
        ([0, 0.1, 0.2, 0.3], 0.3, [0, 1, 2, 3, 3, 3], 10, True),  # the last one stays
        ([0, 0.1, 0.2, 0.5, 0.6], None, [0, 1, 2, 2, 2, 3, 4], 10, True),
        ([5.0, 5.1, 5.2, 5.5, 5.6], 0.1, [0, 1, 2, 2, 2, 3, 4], 10, True),
        ([0.2, 0.2, 0.2], None, [0, 1, 2], 0, False),
        ([0.0, 0.1, 0.0], None, [0, 1, 2], 0, False),
    ],
)
def test_frames_at_even_times(times: list, last: float | None, indices: list, rate: float, uneven: bool) -> None:
    shown, found, was_uneven = even_times(np.array(times), last)
    assert was_uneven is uneven
    assert shown.tolist() == indices
    assert found == pytest.approx(rate)


def test_a_long_pause_makes_at_most_eight_times_as_many_frames() -> None:
    shown, rate, uneven = even_times(np.array([0.0, 0.01, 0.02, 1000.0]))
    assert uneven
    assert len(shown) == 32
    assert rate == pytest.approx(32 / 1000.01)
    assert shown[[0, 30, 31]].tolist() == [2, 2, 2]
