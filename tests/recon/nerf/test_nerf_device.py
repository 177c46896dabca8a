"""The NeRF's fit on a strict pretended CUDA device, with the numbers of the CPU; and its samples along a ray."""

import dataclasses
from pathlib import Path

import pytest
import torch
from scenes import training_grid
from strict_device import OnDevice, StrictDevice

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import ImperfectOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_nerf import NerfLossWeights, NerfOptions
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.nerf.asset import NerfAsset
from viewtime.recon.nerf.fit import NerfFit
from viewtime.recon.nerf.marching import march_reference
from viewtime.recon.nerf.reconstruct import bake_nerf
from viewtime.recon.render import warp_kernels

SMALL = {
    "levels": 3, "coarsest_resolution": 6, "finest_resolution": 20, "log2_table": 11, "occupancy_resolution": 16,
    "start_size": 12, "rays_per_cell": 8, "occupancy_every": 3, "remainder_resolution": 8, "views_per_step": 2,
    "frames_per_step": 2, "static_iterations": 3, "dynamic_iterations": 4, "deformation_resolutions": (4, 6),
    "deformation_width": 8, "patches_per_step": 2, "patch": 4, "samples": 24,
}  # fmt: skip
EVERY = ImperfectOptions(offset=True, exposure=True, robust=True)


@pytest.fixture
def grid():
    return training_grid(3, 3, 16)


def config(**options):
    weights = NerfLossWeights(depth=0.01, bilateral=0.05)
    return ReconstructConfig(
        Path("grid"), method="nerf", nerf=NerfOptions(weights=weights, **{**SMALL, **options}), imperfect=EVERY
    )


def fitted(grid, options, device, state=None):
    fit = NerfFit(make_targets(grid).to(device), options)
    if state is not None and state.is_file():
        fit.restore(state)
    while not fit.finished():
        fit.step()
    return fit


@pytest.mark.parametrize("options", [{}, {"deformation": "mlp", "remainder_features": 0}, {"curriculum": True}])
def test_a_fit_on_the_device_mixes_nothing_and_equals_the_one_on_the_cpu(grid, options, monkeypatch):
    monkeypatch.setattr(warp_kernels, "load_library", lambda source: None)  # the CPU takes CUDA's kernels
    here = bake_nerf(fitted(grid, config(**options), "cpu"), grid).render_grid(grid.orbit, 16, 16)
    with StrictDevice():
        fit = fitted(grid, config(**options), "cuda")
        assert isinstance(fit.field.canonical.table, OnDevice)
        assert isinstance(fit.occupancy.block.occupied, OnDevice)
        there = bake_nerf(fit, grid).render_grid(grid.orbit, 16, 16)
    assert not isinstance(there.frames, OnDevice)
    assert float(here.frames[:, :, 3].max()) > 0.1
    torch.testing.assert_close(there.frames, here.frames, rtol=0, atol=2e-3)


def test_the_paper_preset_runs_on_the_device_and_its_asset_opens_on_the_cpu(grid, tmp_path, monkeypatch):
    """LPIPS apart, whose network is not part of the package."""
    preset = build(ReconstructConfig, {**load_preset("sv4d-nerf", "reconstruct"), "grid": "grid"}, "reconstruct")
    assert (preset.method, preset.nerf.deformation, preset.nerf.remainder_features) == ("nerf", "mlp", 0)
    assert min(preset.nerf.weights.lpips, preset.nerf.weights.depth, preset.nerf.weights.bilateral) > 0
    small = {name: value for name, value in SMALL.items() if name not in ("patches_per_step", "remainder_resolution")}
    weights = dataclasses.replace(preset.nerf.weights, lpips=0.0)
    nerf = dataclasses.replace(preset.nerf, **{**small, "weights": weights})
    with StrictDevice():
        fit = fitted(grid, dataclasses.replace(preset, nerf=nerf), "cuda")
        asset = bake_nerf(fit, grid)
        drawn = asset.render_grid(grid.orbit, 16, 16)
        asset.save(tmp_path)
    again = NerfAsset.load(tmp_path).render_grid(grid.orbit, 16, 16)
    assert float(drawn.frames.std()) > 0.01
    assert float((again.frames - drawn.frames).abs().mean()) < 2e-3  # kept in half precision


def test_a_ray_is_looked_at_through_the_whole_object_however_fine_the_pictures(grid):
    enough = NerfFit(make_targets(grid), config(samples=200))
    assert enough.step_length == pytest.approx(enough.pixel)
    few = NerfFit(make_targets(grid), config(samples=8))
    assert few.step_length > 1.5 * few.pixel
    block = few.occupancy.block
    origins, directions, slot = few.probes
    middle = torch.full((len(origins),), 0.5)
    unlimited = march_reference(block, origins, directions, slot, middle, few.step_length, 500)[1].sum(1)
    assert 4 <= int(unlimited.max()) <= 8
    whole = few.step_length
    few.occupancy.block.occupied[:, ::2] = 0  # a shell is left
    few.space_samples()
    assert few.step_length < 0.8 * whole
