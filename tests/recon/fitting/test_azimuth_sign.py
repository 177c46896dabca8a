"""Grids whose cameras count azimuth clockwise are noticed by their masks, and right ones are left in peace."""

import dataclasses
import logging
from pathlib import Path

import pytest
from scenes import training_grid

from viewtime.configs.schema.reconstruct import GaussianOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_nerf import NerfOptions
from viewtime.recon.fitting.azimuth_sign import mirrored_fits_better
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.reconstruct import fit_gaussians
from viewtime.recon.nerf.reconstruct import fit_nerf

SHORT = {"static_iterations": 0, "dynamic_iterations": 0}


def clockwise(grid):
    return dataclasses.replace(grid, cameras=dataclasses.replace(grid.cameras, azimuth=-grid.cameras.azimuth))


@pytest.mark.parametrize("views", [6, 8])
def test_the_sign_of_the_azimuth_is_told_by_the_masks(views):
    grid = training_grid(views, 2, 48)
    assert not mirrored_fits_better(make_targets(grid), grid.cameras)
    wrong = clockwise(grid)
    assert mirrored_fits_better(make_targets(wrong), wrong.cameras)


def test_an_object_that_is_its_own_mirror_image_says_nothing():
    grid = training_grid(6, 1, 32)
    frames = grid.frames[:1].expand(6, -1, -1, -1, -1)  # every view sees the same
    grid = dataclasses.replace(grid, frames=frames)
    assert not mirrored_fits_better(make_targets(grid), grid.cameras)
    assert not mirrored_fits_better(make_targets(clockwise(grid)), grid.cameras)


@pytest.mark.parametrize("method", ["gaussians", "nerf"])
def test_both_methods_warn(method, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    config = ReconstructConfig(
        Path("grid"), method=method, gaussians=GaussianOptions(count=50, **SHORT),
        nerf=NerfOptions(levels=2, finest_resolution=16, log2_table=10, occupancy_resolution=16, **SHORT),
    )  # fmt: skip
    fit = fit_gaussians if method == "gaussians" else fit_nerf
    fit(clockwise(training_grid(6, 2, 32)), config)
    assert "count azimuth clockwise" in caplog.text
