"""Paths of the first frame's Gaussians over a clip: control points moved until the shells of all frames lie on them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from viewtime.recon.fitting.points import farthest_points
from viewtime.recon.gaussians.motion import ControlPointMotion

from .shell import Shell

CONTROL_POINTS = 120
POINTS = 700  # of a shell that are compared
STEPS_A_FRAME, STEPS_OF_ALL = 10, 20
RATE = 0.02  # of the control points, in world units and radians
COLOUR_WEIGHT = 0.15  # world units that a difference of colour by 1 counts
STIFFNESS = 0.1


def track(shells: list[Shell], seed: int = 0) -> ControlPointMotion:
    """The motion that carries the first shell over all the others.

    Frame after frame starts from the one before and is moved on to its shell: each point to the nearest of the shell
    in place and colour, and each of the shell's points draws the nearest point to itself, while control points keep
    their neighbourhoods as rigid as they can (Sorkine and Alexa 2007). Then all frames together.
    """
    generator = torch.Generator().manual_seed(seed)
    first = shells[0]
    motion = ControlPointMotion(
        first.position[farthest_points(first.position, CONTROL_POINTS)], first.position, len(shells)
    )
    picked = [shell.some(torch.randperm(len(shell), generator=generator)[:POINTS]) for shell in shells]
    chosen = torch.randperm(len(first), generator=generator)[:POINTS]
    trees = [cKDTree(_features(shell.position, shell.colour)) for shell in picked]
    for frame in range(1, len(shells)):
        motion.enter(frame, frame - 1)
        _move(motion, first, chosen, picked, trees, torch.tensor([frame]), STEPS_A_FRAME)
    if len(shells) > 1:
        _move(motion, first, chosen, picked, trees, torch.arange(1, len(shells)), STEPS_OF_ALL)
    return motion


def _move(
    motion: ControlPointMotion,
    first: Shell,
    chosen: Tensor,
    picked: list[Shell],
    trees: list[cKDTree],
    frames: Tensor,
    steps: int,
) -> None:
    """Move the control points of these frames, and of no other, towards their shells."""
    pose = [motion.translation, motion.rotation]
    others = torch.ones(motion.frames, dtype=torch.bool)
    others[frames] = False
    optimizer = torch.optim.Adam(pose, lr=RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        distance = _distance(motion, first, chosen, picked, trees, frames)
        loss = distance + STIFFNESS * motion.regulariser(first.position, frames)
        for values, gradient in zip(pose, torch.autograd.grad(loss, pose), strict=True):
            gradient[others] = 0  # the smoothness of a frame pulls at its neighbours, which are not asked here
            values.grad = gradient
        optimizer.step()


def _distance(
    motion: ControlPointMotion, first: Shell, chosen: Tensor, picked: list[Shell], trees: list[cKDTree], frames: Tensor
) -> Tensor:
    """Mean square distance, both ways, of the moved points and the shells of these frames; 1 is the object's size."""
    _, moved = motion.affine(first.position, frames)
    moved, colour = moved[:, chosen], first.colour[chosen]
    total = moved.new_zeros(())
    for points, frame in zip(moved, frames.tolist(), strict=True):
        shell, here = picked[frame], _features(points.detach(), colour)
        nearest = torch.from_numpy(trees[frame].query(here)[1])
        drawn = torch.from_numpy(cKDTree(here).query(_features(shell.position, shell.colour))[1])
        total = total + (points - shell.position[nearest]).square().sum(-1).mean()
        total = total + (points[drawn] - shell.position).square().sum(-1).mean()
    return total / len(frames) / first.position.var(dim=0).sum()


def _features(position: Tensor, colour: Tensor) -> np.ndarray:
    """What is near in place and looks alike is near: [N, 6]."""
    return torch.cat([position, COLOUR_WEIGHT * colour], dim=1).numpy()
