"""Both papers' runs on a strict pretended CUDA device: nothing is mixed, and the numbers are the CPU's."""

import pytest
import torch
from strict_device import OnDevice, StrictDevice
from test_distill_fit import config

from viewtime.cameras import regular_orbit
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge
from viewtime.recon.distill.running.show import scene_grid
from viewtime.recon.gaussians import fused

LENGTHS = ["--stages.shape.steps", "2", "--stages.motion.steps", "3"]
CASES = {
    "4d-fy-debug": ("4d-fy-debug", *LENGTHS, "--stages.appearance.steps", "2"),
    "dream-in-4d-debug": ("dream-in-4d-debug", *LENGTHS, "--render.at_once", "200"),
    "gaussians": ("dream-in-4d-debug", *LENGTHS, "--scene.kind", "gaussians", "--scene.gaussians", "60"),
}


def fitted(device, preset, *changes):
    made = config(preset, *changes)
    fit = DistillFit(made, lambda name: open_judge(name, made, torch.device(device)), device)
    while not fit.finished():
        fit.step()
    return fit


@pytest.mark.parametrize("case", CASES)
def test_a_run_on_the_device_mixes_nothing_and_equals_the_one_on_the_cpu(case, monkeypatch):
    monkeypatch.setattr(fused, "load_library", lambda source: None)  # on both sides plain code
    here = fitted("cpu", *CASES[case])
    with StrictDevice():
        there = fitted("cuda", *CASES[case])
        parameters = dict(there.scene.named_parameters())
        assert all(isinstance(value, OnDevice) for value in parameters.values())
        found = {name: value.detach().cpu() for name, value in parameters.items()}
        if case == "gaussians":
            covariance = there.scene.gaussians.covariance().detach().cpu()
        times = torch.tensor([0.0, 0.5], dtype=torch.float64)
        grid = scene_grid(there.scene, regular_orbit(1, 2, distance=2.7), times, (8, 8))
        assert not isinstance(grid.frames, OnDevice)
    if case == "gaussians":  # balls: their quaternions' gradient is rounding, which Adam makes steps of
        torch.testing.assert_close(covariance, here.scene.gaussians.covariance().detach(), rtol=1e-3, atol=1e-6)
        del found["gaussians.quaternion"]
    for name in found:
        value = here.scene.get_parameter(name)
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-3, atol=1e-4, msg=name)
