"""ActionBench's alignment of two point clouds: a turn, a scale per axis and a shift, by gradient from 24 starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional

SMALL = 1 << 16  # distances between two clouds, up to which the CPU writes all of them down
AT_ONCE = 1 << 28  # distances held at a time: 1 GiB


@dataclass(frozen=True)
class Alignment:
    """points -> (points * scale) @ rotation + shift."""

    rotation: np.ndarray  # [3, 3]
    scale: np.ndarray  # [3], along the axes of the moved cloud
    shift: np.ndarray  # [3]

    def apply(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] -> [..., 3]."""
        return (points * self.scale) @ self.rotation + self.shift


def axis_rotations() -> Tensor:
    """The 24 turns that map the axes onto each other, the identity first: [24, 3, 3]."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.eye(3)[list(order)] * torch.tensor(signs)[:, None]
            if torch.linalg.det(turn) > 0:
                turns.append(turn)
    return torch.stack(turns)


def from_six(six: Tensor) -> Tensor:
    """[..., 6] -> rotations [..., 3, 3] whose first rows are the two vectors made orthonormal (Zhou et al. 2019)."""
    first = functional.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-2)


def align(
    moved: np.ndarray, fixed: np.ndarray, iterations: int = 200, rate: float = 0.01, device: str = "cpu"
) -> Alignment:
    """The alignment with the least squared Chamfer distance that Adam met from any of the 24 starts.

    Args:
        moved, fixed: [N, 3] and [M, 3] points.
        rate: step of Adam on shift, turn and scale alike; 200 steps of 0.01 reach about 2 units.
    """
    turns = axis_rotations().to(device)
    source, target = (torch.as_tensor(points, dtype=torch.float32, device=device) for points in (moved, fixed))
    six = torch.tensor([1.0, 0, 0, 0, 1.0, 0], device=device).repeat(len(turns), 1).requires_grad_()
    scale = torch.ones(len(turns), 3, device=device, requires_grad=True)
    shift = torch.zeros(len(turns), 3, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([six, scale, shift], lr=rate)
    best, found = float("inf"), None
    with torch.enable_grad():
        for _ in range(iterations):
            rotation = turns @ from_six(six)
            placed = (scale[:, None] * source) @ rotation + shift[:, None]
            losses = squared_chamfer(placed, target, neighbours(placed.detach(), target))
            lowest = int(losses.argmin())
            if losses[lowest].item() < best:
                best = losses[lowest].item()
                found = [value[lowest].detach().cpu().double().numpy() for value in (rotation, scale, shift)]
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
    assert found is not None, "points are finite and there is at least one iteration"
    return Alignment(*found)


def squared_chamfer(placed: Tensor, target: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared distance to the nearest neighbour, both ways added: [S]; the pairs are fixed for the gradient.

    Args:
        placed, target: [S, N, 3] and [M, 3]; pairs: what `neighbours` found.
    """
    there, back = pairs
    forth = (placed - target[there]).square().sum(-1).mean(-1)
    partners = placed.gather(1, repeat(back, "s m -> s m c", c=3))
    return forth + (partners - target).square().sum(-1).mean(-1)


def neighbours(placed: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """For each of `placed` [S, N, 3] the nearest of `target` [M, 3], and back: indices [S, N], [S, M]."""
    if placed.device.type == "cpu" and placed.shape[1] * len(target) > SMALL:
        return neighbours_by_tree(placed, target)
    return neighbours_by_matrix(placed, target)


def neighbours_by_matrix(placed: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """All distances, as many clouds at a time as fit: what an accelerator does best."""
    at_once = max(1, AT_ONCE // (placed.shape[1] * len(target)))
    there, back = [], []
    for clouds in placed.split(at_once):
        distances = torch.cdist(clouds, target[None], compute_mode="donot_use_mm_for_euclid_dist")
        there.append(distances.argmin(dim=2))
        back.append(distances.argmin(dim=1))
    return torch.cat(there), torch.cat(back)


def neighbours_by_tree(placed: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same by search trees, on the CPU."""
    asked = target.numpy()
    tree = KDTree(asked)
    there = [tree.query(points)[1] for points in placed.numpy()]
    back = [KDTree(points, balanced_tree=False, compact_nodes=False).query(asked)[1] for points in placed.numpy()]
    return torch.from_numpy(np.stack(there)), torch.from_numpy(np.stack(back))
