"""The Gaussian fit on a strict pretended CUDA device: every motion model and remedy, with the numbers of the CPU."""

from pathlib import Path

import pytest
import torch
from scenes import training_grid
from strict_device import OnDevice, StrictDevice

from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.recon.fitting.device import fitting_device
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians import fused
from viewtime.recon.gaussians.fit import GaussianFit
from viewtime.recon.gaussians.initialise import first_gaussians
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.render import warp_kernels

EVERY = ImperfectOptions(offset=True, exposure=True, view_deformation=True, robust=True, view_weighting=True)
STEPS = {"static_iterations": 2, "dynamic_iterations": 4, "densify": 1, "frames_per_step": 2, "control_points": 10}


@pytest.fixture
def grid():
    return training_grid(3, 3, 16)


@pytest.fixture
def one_rasteriser(monkeypatch):
    """The CPU draws with the kernel that CUDA uses, and no compiled part is fused, so that only devices differ."""
    for module in (warp_kernels, fused):
        monkeypatch.setattr(module, "load_library", lambda source: None)


def fitted(grid, device, **options):
    torch.manual_seed(0)  # the MLP's first weights
    gaussians = GaussianOptions(count=60, **{**STEPS, **options})
    config = ReconstructConfig(Path("grid"), gaussians=gaussians, imperfect=EVERY)
    targets = make_targets(grid)
    fit = GaussianFit(targets.to(device), first_gaussians(targets, config), config)
    while not fit.finished():
        fit.step()
        if fit.progress.stage == 1 and fit.progress.iteration == 3:
            fit.keep(torch.arange(2, len(fit.gaussians), device=device))  # as pruning does
    return fit


@pytest.mark.parametrize("options", [{"motion": "control_points"}, {"motion": "free"}, {"motion": "mlp"},
                                     {"motion": "mlp", "isotropic": True}])  # fmt: skip
def test_a_fit_on_the_device_mixes_nothing_and_equals_the_one_on_the_cpu(grid, options, one_rasteriser):
    here = bake(fitted(grid, "cpu", **options), grid)
    with StrictDevice():
        fit = fitted(grid, "cuda", **options)
        assert isinstance(fit.gaussians.position, OnDevice)
        there = bake(fit, grid)
    assert len(fit.gaussians) > 60  # some were split
    assert float((here.means[2] - here.means[0]).abs().max()) > 1e-3
    for name in ("means", "covariance", "opacity", "colour", "linear"):
        value, right = getattr(there, name), getattr(here, name)
        assert not isinstance(value, OnDevice)
        torch.testing.assert_close(value, right, rtol=1e-4, atol=1e-5)


def test_the_two_stage_remedy_on_the_device(grid, one_rasteriser, monkeypatch):
    remedies = ImperfectOptions(two_stage=True, offset=True, exposure=True)
    gaussians = GaussianOptions(count=60, **{**STEPS, "static_iterations": 4, "dynamic_iterations": 8})
    config = ReconstructConfig(Path("grid"), gaussians=gaussians, imperfect=remedies)
    here, _ = fit_gaussians(grid, config)
    monkeypatch.setattr("viewtime.recon.gaussians.reconstruct.fitting_device", lambda config: torch.device("cuda"))
    with StrictDevice():
        there, _ = fit_gaussians(grid, config)
        assert isinstance(there.targets.images, OnDevice)
        images, shift = there.targets.images.cpu(), there.compensation.shift.detach().cpu()
    torch.testing.assert_close(images, here.targets.images, rtol=0, atol=1e-4)
    assert float(shift.abs().max()) > 1e-3


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="no CUDA device"):
        fitting_device(ReconstructConfig(Path("grid"), device="cuda"))
    assert fitting_device(ReconstructConfig(Path("grid"))) == torch.device("cpu")
