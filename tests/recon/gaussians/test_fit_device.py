"""The Gaussian fit keeps its tensors on one device: a step on a pretended CUDA device; and the option's errors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import training_grid
from torch._subclasses.fake_tensor import FakeTensorMode

from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.recon.fitting.device import fitting_device
from viewtime.recon.fitting.targets import Targets, make_targets
from viewtime.recon.gaussians import fit as fit_module
from viewtime.recon.gaussians.fit import GaussianFit
from viewtime.recon.gaussians.initialise import first_gaussians
from viewtime.recon.render.renderer import Picture
from viewtime.recon.render.splats import Viewpoints

EVERY = ImperfectOptions(offset=True, exposure=True, view_deformation=True, robust=True, view_weighting=True)


def draw_flat(
    means: torch.Tensor, covariance: torch.Tensor, opacity: torch.Tensor, colour: torch.Tensor, views: Viewpoints
) -> Picture:
    """Pictures that depend on everything that a renderer gets, and show nothing."""
    total = sum(x.sum() for x in (means, covariance, opacity, colour, views.focal, views.centre, views.world_to_camera))
    grey = torch.ones(len(means), 4, views.height, views.width, device=means.device) * total
    return Picture(grey[:, :3], grey[:, 3:])


def pretend_cuda(fit: GaussianFit, mode: FakeTensorMode) -> None:
    """Every tensor of the fit that belongs on its device, as a fake one on CUDA."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return mode.from_tensor(tensor.detach()).to("cuda")

    for module in (fit.gaussians, fit.motion, fit.compensation):
        assert module is not None
        for name, parameter in list(module.named_parameters()):
            setattr(module, name, torch.nn.Parameter(moved(parameter)))
        for name, buffer in list(module.named_buffers()):
            module.register_buffer(name, moved(buffer))
    targets = fit.targets
    views = replace(
        targets.views, **{n: moved(getattr(targets.views, n)) for n in ("world_to_camera", "focal", "centre")}
    )
    fit.targets = Targets(moved(targets.images), targets.usable, views, targets.reach)
    fit.device = torch.device("cuda")


@pytest.mark.parametrize("motion", ["control_points", "free"])
def test_the_loss_of_a_step_mixes_no_devices(motion, monkeypatch):
    targets = make_targets(training_grid(3, 3, 24))
    options = GaussianOptions(count=60, motion=motion, control_points=10)
    config = ReconstructConfig(Path("grid"), gaussians=options, imperfect=EVERY)
    fit = GaussianFit(targets, first_gaussians(targets, config), config)
    fit.start_motion()
    # It picks inner frames by value, which pretended tensors do not have.
    monkeypatch.setattr(fit.motion, "regulariser", lambda position, frames: position.square().mean())
    monkeypatch.setattr(fit_module, "render", draw_flat)
    frames, frame_of, view_of = torch.tensor([0, 2]), torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 1, 2])
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        pretend_cuda(fit, mode)
        loss, error = fit.loss(frame_of, view_of, frames, torch.ones(4))
    assert loss.device.type == error.device.type == "cuda"


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="no CUDA device"):
        fitting_device(ReconstructConfig(Path("grid"), device="cuda"))
    assert fitting_device(ReconstructConfig(Path("grid"))) == torch.device("cpu")
