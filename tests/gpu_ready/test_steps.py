"""Training steps, fits and metrics at full size on a card that is not there: nothing that it refuses, few waits."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from benchmarks.fake_card import fake_card
from benchmarks.gpu_fits import FITS
from benchmarks.gpu_metrics import CUDA, METRICS, PICTURES, SIDE
from benchmarks.gpu_training import TRAINING, fake_trainer, training_step, without_files
from tests.recon.strict_device import OnDevice, StrictDevice
from viewtime.configs.load import presets
from viewtime.sample.metrics.networks.video import I3D

REFUSED = ("mixed device", "float64", "launch", "index")
QUICK = ("mini-debug", "4real-debug", "gaussians: mlp", "nerf: grid", "lpips*", "r3d")


def slow_but(names):
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]


def places(cost):
    return [fault.place.rpartition(":")[0] for fault in cost.of("synchronisation")]


@pytest.mark.parametrize("name", slow_but(TRAINING))
def test_a_training_step_of_every_preset(name):
    """One wait a step, for the gradient's norm, however many micro-batches; and for where a solid is."""
    with fake_card() as card:
        cost = training_step(card, name)
    assert not cost.of(*REFUSED), cost.of(*REFUSED)
    waits = Counter(places(cost))
    assert waits.pop("train/loop.py") == 1
    assert set(waits) <= {"mini/solid.py"}, cost.of("synchronisation")
    assert cost.flops > 1e7
    assert cost.peak < 80e9


def test_more_micro_batches_wait_no_more():
    with fake_card() as card:
        cost = training_step(card, "mini-debug", lambda c: replace(c, optimizer=replace(c.optimizer, accumulate=3)))
    assert places(cost) == ["train/loop.py"]


def test_every_training_preset_is_among_them():
    assert set(TRAINING) == set(presets("train"))
    assert {"sv4d-train", "sv4d-lora", "4real", "mini-generalist"} <= set(TRAINING)


def test_the_step_is_the_presets_own(tmp_path):
    """Adapters alone train; averages are kept; recomputed activations take less memory and more work."""
    lora = without_files("sv4d-lora", tmp_path)
    assert lora.model.lora is not None
    with fake_card(), fake_trainer(without_files("mini-debug", tmp_path)) as trainer:
        assert all(isinstance(parameter, OnDevice) for parameter in trainer.module.parameters())
        assert all(isinstance(average, OnDevice) for average in trainer.ema.averages[0].values())


@pytest.mark.parametrize("name", slow_but(FITS))
def test_an_iteration_of_every_fit(name):
    """Gaussians wait once an iteration, and for each pruning; a NeRF once, and for what its rays' samples are."""
    with fake_card() as card:
        cost = FITS[name](card)
    assert not cost.of(*REFUSED), cost.of(*REFUSED)
    allowed = {"gaussians/fit.py", "gaussians/densify.py"} if name.startswith("gaussians") else {
        "nerf/fit.py", "nerf/rendering.py", "nerf/losses.py"}  # fmt: skip
    assert set(places(cost)) <= allowed, cost.of("synchronisation")
    assert len(places(cost)) <= 3, cost.of("synchronisation")


@pytest.mark.parametrize("name", slow_but(METRICS))
def test_metric_networks(name):
    """Pictures go up a few at a time, one result comes back; LPIPS with VGG fits a card of 24 GB at 576 pixels."""
    with fake_card() as card:
        cost = METRICS[name](card)
    assert not cost.of(*REFUSED), cost.of(*REFUSED)
    assert len(cost.of("synchronisation")) == 1, cost.of("synchronisation")
    assert cost.peak < 8e9


def test_i3d_on_the_strict_device(tmp_path):
    """Its TorchScript runs there, and clips and features are on the right side."""

    class Small(torch.nn.Module):
        def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = True):
            return x.mean(dim=(3, 4)).flatten(1)

    path = tmp_path / "i3d.pt"
    torch.jit.script(Small()).save(str(path))
    pictures = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    here = I3D(path)
    expected = here(here.prepare(pictures)[None])
    with StrictDevice():
        there = I3D(path)
        there.network.device = CUDA
        prepared = there.prepare(pictures)
        assert isinstance(prepared, OnDevice)
        found = there(prepared[None])
    assert not isinstance(found, OnDevice)
    torch.testing.assert_close(found, expected)
    assert PICTURES * SIDE > 0
