"""The formats that CUDA computes in by default lose less than 60 dB over a whole pipeline, by emulated rounding."""

import pytest
import torch

from benchmarks.precision import NETWORKS, pipeline, psnr
from viewtime.model.precision import ON_CUDA

LEAST = 60.0  # dB
QUICK = ("sv4d",)  # the one that loses most


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NETWORKS])
@torch.no_grad()
def test_the_default_on_cuda_keeps_sixty_decibels(name):
    """Encode, five guided steps, decode; bfloat16 networks would not, which shows that the measure reacts."""
    truth = pipeline(name, dict.fromkeys(ON_CUDA, torch.float32))["whole pipeline"]
    made = pipeline(name, ON_CUDA)["whole pipeline"]
    assert psnr(made, truth) > LEAST
    assert psnr(made, truth) < 90  # something is rounded
    if name in QUICK:
        coarse = pipeline(name, {**ON_CUDA, "network": torch.bfloat16})["whole pipeline"]
        assert psnr(coarse, truth) < 55
