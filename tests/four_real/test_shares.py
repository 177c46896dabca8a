"""Context parallelism: a grid on two processes has the loss and the gradients of a grid on one."""

from __future__ import annotations

import pytest

from tests.four_real.conftest import grid_model
from tests.train.conftest import run_worker
from viewtime.errors import UserError


@pytest.mark.timeout(600)
def test_a_shared_grid_has_the_gradients_of_a_whole_one():
    """Every variant that can be shared, one with recomputed activations, and the upsampler; within 1e-5."""
    done = run_worker("tests.four_real.shares_worker")
    for name in ("soft", "hard", "sequential", "upsampler"):
        assert f"{name}: gradients apart by" in done.stdout
    assert "2 processes cannot share a grid of 3 views x 6 frames" in done.stdout
    assert done.stdout.count("the processes that share a grid have read different ones (ours is one)") == 2


def test_fused_attention_cannot_be_shared():
    with pytest.raises(UserError, match="attends along both axes at once"):
        grid_model(variant="fused").share_grid(None)  # type: ignore[arg-type]
