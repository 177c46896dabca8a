"""Every model at its full size on a GPU that is not there: nothing that a card refuses, no wait inside the sampler."""

import pytest
import torch

from benchmarks.fake_gpu import fake_gpu
from benchmarks.gpu_cost import measure
from benchmarks.gpu_jobs import JOBS
from tests.recon.strict_device import StrictDevice
from viewtime.model import attention
from viewtime.model.weight_names import SHIPPED
from viewtime.sample.models.loading import load_model

REFUSED = ("mixed device", "float64", "launch", "index")
WAITS = ("synchronisation", "upload")
QUICK = ("mini", "sv3d-u")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in JOBS])
def test_full_size(name):
    costs, units, weights = measure(name)
    for piece, cost in costs.items():
        assert not cost.of(*REFUSED), (piece, cost.of(*REFUSED))
    assert not costs["step"].of(*WAITS), costs["step"].of(*WAITS)
    assert costs["step"].flops > 1e9
    assert weights < max(cost.peak for cost in costs.values()) < 48e9
    assert units["step"] >= 20


@pytest.mark.parametrize(("rows", "length"), [(82944, 5), (124416, 4)])  # sv4d's frames, sv4d2's views
def test_a_window_of_sv4d_in_one_launch_is_found(monkeypatch, rows, length):
    with fake_gpu() as gpu:
        tokens = torch.empty(rows, 5, length, 64, device="cuda", dtype=torch.float16)
        with gpu.record() as run:
            attention.attend(tokens, tokens, tokens)
        assert not run.of("launch")
        monkeypatch.setattr(attention, "LARGEST_LAUNCH", rows)
        with gpu.record() as run:
            attention.attend(tokens, tokens, tokens)
        assert len(run.of("launch")) == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_on_a_strict_device(name):
    """What hangs on values, such as which cells of a solid are empty, mixes no devices and gives the CPU's numbers."""
    model = load_model(name, torch.device("cpu"), torch.float32)
    shape = (1, 2, 1)
    known = torch.tensor([True, False]).view(shape)
    x = torch.randn(*shape, 4, *model.traits.cell, generator=torch.Generator().manual_seed(0))
    angle = torch.tensor([0.0, 90.0]).view(shape)
    cond = {"known": known, "known_frames": x.tanh(), "elevation": torch.full(shape, 12.0), "azimuth": angle}
    with torch.no_grad():
        expected = model.denoiser(x, torch.tensor([0.5]), cond)
        with StrictDevice():
            model.to("cuda")
            card = {key: value.to("cuda") for key, value in cond.items()}
            found = model.denoiser(x.to("cuda"), torch.tensor([0.5], device="cuda"), card)
            assert found.device.type == "cuda"
            torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)
