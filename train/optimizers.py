"""Optimisers and parameter groups: AdamW, and Muon for the matrices inside the network."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from viewtime.configs.schema.train import OptimizerSection, ParameterGroup
from viewtime.errors import UserError

# Quintic Newton-Schulz coefficients of Muon (Jordan et al. 2024): they drive every singular value near 1 in 5 rounds.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ROUNDS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """[N, rows, columns] -> matrices with the same singular vectors and singular values near 1.

    Runs in bfloat16 where the processor multiplies it natively (half the time of float32), else in the given type.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda or torch.cpu._is_avx512_bf16_supported() else matrices
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled to AdamW's step size (0.2 sqrt(max side), Liu et al. 2025).

    Groups with `use_muon: False` are updated by AdamW, so that one optimiser object holds the whole network. Matrices
    of one shape are orthogonalised together.
    """

    def __init__(self, groups: list[dict], momentum: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0, "use_muon": True})
        self.momentum, self.betas, self.eps = momentum, betas, eps

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["lr"] == 0 or not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["use_muon"]:
                self._muon_update(parameters, group["lr"])
            else:
                self._adam_update(parameters, group["lr"])

    def _muon_update(self, parameters: list[Tensor], lr: float) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.flatten(1).shape, []).append(parameter)
        for shape, members in by_shape.items():
            directions = []
            for parameter in members:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
                directions.append(parameter.grad.lerp(state["momentum"], self.momentum).flatten(1))
            updates = orthogonalised(torch.stack(directions))
            scale = -lr * 0.2 * max(shape) ** 0.5
            torch._foreach_add_(members, [u.view_as(p) for u, p in zip(updates, members)], alpha=scale)

    def _adam_update(self, parameters: list[Tensor], lr: float) -> None:
        beta1, beta2 = self.betas
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
        states = [self.state[p] for p in parameters]
        first, second = [s["first"] for s in states], [s["second"] for s in states]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        counts = [float(s["step"]) for s in states]
        denominators = torch._foreach_sqrt(second)
        torch._foreach_div_(denominators, [(1 - beta2**n) ** 0.5 for n in counts])
        torch._foreach_add_(denominators, self.eps)
        torch._foreach_addcdiv_(parameters, first, denominators, [-lr / (1 - beta1**n) for n in counts])


def select_parameters(module: nn.Module, groups: list[ParameterGroup]) -> dict[str, float]:
    """Name -> learning-rate factor of the parameters that train; the others get `requires_grad` False.

    Raises:
        UserError: a group matches nothing, or nothing is left to train.
    """
    unmatched = {group.match for group in groups}
    scales: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if not groups:
            scales[name] = 1.0
            continue
        for group in groups:
            if re.search(group.match, name):
                unmatched.discard(group.match)
                if group.lr_scale > 0:
                    scales[name] = group.lr_scale
                break
        parameter.requires_grad_(name in scales)
    if unmatched:
        raise UserError(f"model.train: no parameter's name matches {sorted(unmatched)[0]!r}")
    if not scales:
        raise UserError("no parameter trains: every one is frozen by model.train")
    return scales


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Muon is for the matrices between hidden layers; embeddings and tables stay with AdamW."""
    return parameter.dim() >= 2 and min(parameter.flatten(1).shape) > 1 and not re.search(r"embed|table|pos", name)


def build_optimizer(module: nn.Module, section: OptimizerSection, scales: dict[str, float]) -> torch.optim.Optimizer:
    """An optimiser whose groups carry `lr_scale`; the loop sets `lr` at each step.

    Args:
        scales: from `select_parameters`.
    """
    buckets: dict[tuple[float, bool, bool], list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if name in scales:
            muon = section.name == "muon" and _is_hidden_matrix(name, parameter)
            key = (scales[name] * (section.muon_lr_scale if muon else 1.0), parameter.dim() >= 2, muon)
            buckets.setdefault(key, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": 1e-3,
            "lr_scale": scale,
            "weight_decay": section.weight_decay if decays else 0.0,
            "use_muon": muon,
        }
        for (scale, decays, muon), parameters in buckets.items()
    ]
    if section.name == "muon":
        return Muon(groups, section.muon_momentum, section.betas, section.eps)
    return torch.optim.AdamW(groups, lr=1e-3, betas=section.betas, eps=section.eps, fused=_all_floating(groups))


def _all_floating(groups: Iterable[dict]) -> bool:
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's rate to `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
