"""Context parallelism of SV4D: a grid on two processes has the loss and the gradients of a grid on one."""

from __future__ import annotations

import pytest

from tests.train.conftest import run_worker


@pytest.mark.timeout(600)
def test_a_shared_grid_has_the_gradients_of_a_whole_one():
    """Every way of attending over views, and SV3D, with parts of unequal size; within 1e-5. And what is refused."""
    done = run_worker("tests.model.sv4d_shares_worker")
    for name in ("sv4d-debug", "sv4d2-debug", "sv4d2-8views-debug", "sv3d-p-debug", "raster"):
        assert f"{name}: gradients apart by" in done.stdout
    assert "2 processes cannot share a grid of 3 views: context_parallel must divide views; set it to one of: 1, 3" in (
        done.stdout
    )
    assert "2 processes cannot share a grid of 1 frames, as the last would have none" in done.stdout
