"""Small 4Real-Video models with weights away from their zero starts, and inputs for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from viewtime.model.four_real.config import BaseConfig, GridConfig
from viewtime.model.four_real.grid import GridModel

SMALL = BaseConfig(patch=4, width=32, depth=3, head_dim=16, mlp_ratio=2, text_width=24, frame_size=(8, 16))
VIEWS, FRAMES = 3, 4


def stir(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter of the base model, so that nothing is at its zero start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def grid_model(**options) -> GridModel:
    """A grid model whose base is stirred and whose own layers are as built."""
    torch.manual_seed(0)
    model = GridModel(GridConfig(SMALL, **options))
    stir(model.base)
    model.load_base(model.base.state_dict())
    return model


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(x, noise label, cond) of a batch of 2 grids, first row and column known."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, VIEWS, FRAMES, 3, 8, 16, generator=generator)
    clean = torch.rand(x.shape, generator=generator) * 2 - 1
    known = torch.zeros(2, VIEWS, FRAMES, dtype=torch.bool)
    known[:, 0], known[:, :, 0] = True, True
    label = torch.tensor([0.3, 0.8])[:, None, None].expand(2, VIEWS, FRAMES) * 1000
    cond = {
        "known": known,
        "known_frames": clean * known[..., None, None, None],
        "text": torch.randn(2, 5, 24, generator=generator),
    }
    return x, label, cond
