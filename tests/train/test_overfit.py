"""mini-debug learns one grid, and needs its cameras for that."""

from __future__ import annotations

import pytest

from benchmarks.overfit import VARIANTS, compare


@pytest.mark.slow
def test_one_grid_is_learnt_and_the_cameras_are_used():
    """Frame attention is no help here: every frame has an input cell of its own (the benchmark prints all three)."""
    found = compare(steps=300)
    print(found)
    whole, _, shuffled = (found[variant][1] for variant in VARIANTS)
    assert whole < 0.1 * found[VARIANTS[0]][0]
    assert shuffled > 1.1 * whole
