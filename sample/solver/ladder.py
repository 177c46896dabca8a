"""Noise levels made for a denoiser: close together where its prediction turns, far apart where it stays.

A solver of order p errs in a step by the (p + 1)-th power of the step's width, times how fast the prediction changes
there, so a given number of steps errs least where every step has the same share of the integral of that speed to the
power 1 / (p + 1) (equidistribution; Sabour et al. 2024, "Align your steps", minimise a bound instead).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from viewtime.errors import UserError


def made_for(levels: Sequence[float], predictions: Sequence[Tensor], steps: int, order: int = 2) -> Tensor:
    """A ladder of `steps` levels and 0 for whatever made these predictions.

    Args:
        levels: falling noise levels of a fine run, all above 0.
        predictions: of x0 at each of them, along one trajectory or a batch of them; any shape.
        order: of the solver that is to use the ladder: 1 for Euler, 2 for the others.

    Returns:
        [steps + 1], from the first of `levels` to the last of them, then 0.

    Raises:
        UserError: fewer than three levels, levels that do not fall, or fewer than two steps.
    """
    if steps < 2:
        raise UserError(f"a ladder of {steps} steps; at least 2 are needed, the first level's and the last's")
    positions = -torch.tensor(levels, dtype=torch.float64).log()
    widths = positions.diff()
    if len(widths) < 2 or not bool((widths > 0).all()) or len(predictions) != len(levels):
        raise UserError("a ladder is made from three levels or more that fall to above 0, with a prediction at each")
    changes = [float((b.double() - a.double()).square().mean().sqrt()) for a, b in pairwise(predictions)]
    speed = torch.tensor(changes, dtype=torch.float64) / widths
    share = speed ** (1 / (order + 1)) * widths
    share = share + share.sum() * 1e-3 / len(share)  # no step across all of a flat part
    course = torch.cat([torch.zeros(1, dtype=torch.float64), share.cumsum(0)])
    wanted = torch.linspace(0, float(course[-1]), steps, dtype=torch.float64)
    right = torch.searchsorted(course, wanted).clamp(1, len(course) - 1)
    within = (wanted - course[right - 1]) / (course[right] - course[right - 1])
    chosen = (-(positions[right - 1] + within * (positions[right] - positions[right - 1]))).exp()
    return torch.cat([chosen, torch.zeros(1, dtype=torch.float64)])
