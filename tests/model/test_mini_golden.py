"""The two models that ship predict what they predicted when they were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from viewtime.model.weight_names import SHIPPED
from viewtime.sample.models.mini_model import load_mini

# `python tests/model/test_mini_golden.py` writes it: only where weights that ship are other ones.
FILE = Path(__file__).resolve().parents[1] / "golden" / "mini.npz"


def prediction(name: str) -> np.ndarray:
    """x0 of two views and two frames at two noise levels, the first view known: every 16th pixel, [V, F, 4, h, w]."""
    model = load_mini(SHIPPED[name], torch.device("cpu"), torch.float32)
    size = model.denoiser.network.config.size
    place = torch.linspace(-1, 1, size, dtype=torch.float64)
    inside = (place[:, None] ** 2 + 1.7 * place[None] ** 2 < 0.5).double()
    wave = torch.sin(9 * place)[:, None] * torch.cos(7 * place)[None]
    shades = torch.linspace(-0.8, 0.8, 12, dtype=torch.float64).reshape(2, 2, 3, 1, 1)
    colour = shades + 0.2 * wave
    cells = torch.cat([colour * inside, (2 * inside - 1).expand(2, 2, 1, size, size)], dim=2)[None].float()
    known = torch.tensor([[[True, True], [False, False]]])
    cond = {
        "known": known,
        "known_frames": cells * known[..., None, None, None],
        "elevation": torch.tensor([[[10.0, 10.0], [-5.0, 20.0]]]),
        "azimuth": torch.tensor([[[0.0, 0.0], [60.0, 135.0]]]),
        "fov_y": torch.tensor([33.8]),
    }
    noised = cells + 0.4 * torch.sin(53 * cells + 3 * wave.float())
    sigma = torch.tensor([[[0.0, 0.0], [0.35, 0.8]]])
    with torch.no_grad():
        made = model.denoiser(noised, sigma, cond)
    return made[0, ..., 8::16, 8::16].numpy()


@pytest.mark.parametrize("name", ["mini", "mini-generalist"])
def test_predictions_stay(name: str) -> None:
    with np.load(FILE) as golden:
        np.testing.assert_allclose(prediction(name), golden[name], atol=2e-3)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{name: prediction(name) for name in SHIPPED})
