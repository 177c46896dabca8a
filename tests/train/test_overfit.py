"""mini-debug learns one grid, and needs its frame attention and its cameras for that."""

from __future__ import annotations

import pytest

from benchmarks.overfit import VARIANTS, compare


@pytest.mark.slow
def test_one_grid_is_learnt_and_conditions_are_used():
    found = compare(steps=300)
    print(found)
    whole, without_frames, shuffled = (found[variant][1] for variant in VARIANTS)
    assert whole < 0.1 * found[VARIANTS[0]][0]
    assert without_frames > 1.1 * whole
    assert shuffled > 1.1 * whole
