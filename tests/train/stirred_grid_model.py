"""A small 4Real grid model of which everything trains and nothing is at its zero start."""

from __future__ import annotations

import torch

from tests.four_real.conftest import stir
from viewtime.model.denoiser import NetworkDenoiser
from viewtime.model.registry import build_denoiser


def stirred(**config) -> NetworkDenoiser:
    torch.manual_seed(0)
    denoiser = build_denoiser("4real", config)
    stir(denoiser.network).requires_grad_(True)
    return denoiser
