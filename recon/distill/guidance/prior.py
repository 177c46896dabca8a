"""What a guidance alone would draw: a plain sampling run of its network, for a look before hours are spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from viewtime.cameras import Cameras

from ..losses.guided import guided
from ..losses.one_step import ddim_update
from .base import Draws, Guidance


def draw_prior(
    guidance: Guidance,
    prompt: Any,
    cameras: Sequence[Cameras],
    draws: Draws,
    *,
    scale: float = 7.5,
    steps: int = 30,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sample by DDIM (eta 0) from pure noise.

    Args:
        cameras: one per scene B, each [V, F], as the guidance's kind wants them.
        scale: of ordinary guidance (form B); steps: evaluations of the network.

    Returns:
        RGB in [0, 1], [B, V, F, 3, H, W].
    """
    schedule, (V, F) = guidance.traits.schedule, cameras[0].shape
    x = draws.normal("prior", torch.empty(len(cameras), V, F, *guidance.traits.latent, device=device))
    ladder = torch.linspace(len(schedule) - 1, 0, steps + 1).round().long()[:-1].tolist()
    for now, then in zip(ladder, [*ladder[1:], -1]):
        timesteps = torch.full((len(cameras), V, F), now, device=device)
        found = guidance.predict(x, timesteps, cameras, prompt)
        a, b = (schedule.at(torch.tensor([t], device=device)) for t in (now, then))
        flat = guided(*found, scale, "B").flatten(0, 2)
        x = ddim_update(x.flatten(0, 2), flat, a, b, None).unflatten(0, x.shape[:3])
    return guidance.decode(x)
