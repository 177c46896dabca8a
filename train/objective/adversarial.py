"""Adversarial training of a denoiser's predictions (Sauer et al. 2023, "Adversarial diffusion distillation").

A prediction that is best in squared error is a mean over what may be there, and so is blurred; few sampling steps
leave it so. A critic that compares predicted grids with real ones pulls the prediction towards one of the
possibilities, and towards one that neighbouring frames and views share.

The critic's loss is relativistic, with an approximate gradient penalty on real grids (Huang et al. 2024, eq. 2; Lin et
al. 2025, "Diffusion adversarial post-training", eq. 5).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from viewtime.configs.schema.adversarial import CriticSection
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.model.critic import PATCH, Critic
from viewtime.train.distributed import strategy
from viewtime.train.schedule import Progress
from viewtime.train.transfer import to_device

from .losses import Cond, stage_loss

CRITIC_BETAS = (0.0, 0.99)


class Judged(NamedTuple):
    """What the critic is told about every cell but the input view's; see `Critic.forward`."""

    given: Tensor
    seen: Tensor
    elevation: Tensor
    azimuth: Tensor
    unknown: Tensor  # bool [B, V - 1, F]: cells that the model made


def novel(grid: Tensor) -> Tensor:
    """[B, V, …] -> [B, V − 1, …], without the input view."""
    return grid[:, 1:]


def conditions(cond: Cond, unknown: Tensor) -> Judged:
    """See `Judged`.

    Args:
        cond: the batch's, with `known_frames` [B, V, F, C, S, S] and the camera angles.
        unknown: cells that carry loss, bool [B, V, F].

    Raises:
        UserError: the batch lacks one of the conditions.
    """
    if missing := {"known_frames", "elevation", "azimuth"} - cond.keys():
        raise UserError(f"adversarial training needs {', '.join(sorted(missing))} among the batch's conditions")
    given = cond["known_frames"][:, :1].expand_as(novel(cond["known_frames"]))
    seen = ~unknown[:, :1].expand_as(novel(unknown))
    return Judged(given, seen, novel(cond["elevation"]), novel(cond["azimuth"]), novel(unknown))


class Adversary:
    """The critic with its optimiser; takes part in every step of a stage whose loss is adversarial."""

    def __init__(self, config: TrainConfig, channels: int, accelerator: Any) -> None:
        if strategy(accelerator) not in ("single", "ddp") or config.precision == "fp16":
            raise UserError("adversarial training holds two models: launch it as one process or under DDP, not in fp16")
        self.section: CriticSection = config.critic
        self.first_stage = adversarial_stages(config)[0]
        self.accelerator = accelerator
        torch.manual_seed(config.seed + 1)
        critic = Critic(channels, self.section.width).to(accelerator.device)
        optimizer = torch.optim.AdamW(critic.parameters(), self.section.lr, CRITIC_BETAS, weight_decay=0.0)
        self.critic, self.optimizer = accelerator.prepare(critic, optimizer)

    def with_pull(self, loss: Tensor, share: float, denoised: Tensor, *judged: Any) -> tuple[Tensor, Tensor]:
        """The loss whose gradient at the prediction is that of `loss` and `share` of it, sample by sample, as pull.

        Args:
            loss: squared error of `denoised`, a scalar.
            share: norm of the pull over that of the squared error's gradient.
            judged: the rest of what `pull` takes.

        Returns:
            (scalar, mean logit of real cells over made ones).
        """
        pull, margin = self.pull(denoised, *judged)
        (gradient,) = torch.autograd.grad(loss, denoised, retain_graph=True)
        return loss + share * (denoised * balanced(pull, gradient)).sum(), margin

    def pull(
        self, denoised: Tensor, x0: Tensor, cond: Cond, unknown: Tensor, generators: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """The gradient that the critic wants at the prediction; its own gradients are left in its parameters.

        Args:
            denoised, x0: prediction and truth [B, V, F, C, S, S].
            cond, unknown: see `conditions`.
            generators: one a sample, of the penalty's perturbation.

        Returns:
            (gradient of the model's adversarial loss at `denoised`, like it; mean logit of real cells over made ones).
        """
        made = torch.where(unknown[..., None, None, None], denoised.detach().float(), x0).requires_grad_()
        noise = torch.stack([torch.randn(x0.shape[1:], generator=generator) for generator in generators])
        noise = to_device(noise, x0.device, x0.dtype)
        judged = conditions(cond, unknown)
        real = novel(x0)
        grids = torch.cat([real, novel(made), real + self.section.penalty_noise * novel(noise)])
        logits = self.critic(grids, *(torch.cat([value] * 3) for value in judged[:4]))
        on_real, on_made, near_real = logits.float().chunk(3)
        weight = judged.unknown[..., None, None].to(on_real)
        weight = weight / (weight.sum() * (x0.shape[-1] // PATCH) * (x0.shape[-2] // PATCH)).clamp_min(1)
        margin = on_real - on_made
        (pull,) = torch.autograd.grad((F.softplus(margin) * weight).sum(), made, retain_graph=True)
        penalty = self.section.penalty * (near_real - on_real).square()
        self.accelerator.backward(((F.softplus(-margin) + penalty) * weight).sum())
        # What stands at known cells is not the prediction.
        return pull * unknown[..., None, None, None], (margin.detach() * weight).sum()

    def strength(self, progress: Progress) -> float:
        """Share of the full pull: a critic that knows nothing yet would pull anywhere."""
        if progress.stage > self.first_stage or not self.section.warmup_steps:
            return 1.0
        return min(1.0, progress.stage_step / self.section.warmup_steps)

    def update(self, finite: bool) -> None:
        """Step the critic, or throw its gradients away."""
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()


def adversarial_stages(config: TrainConfig) -> list[int]:
    """Indices of the stages whose loss has an adversarial part."""
    return [index for index, stage in enumerate(config.stages) if stage_loss(config, stage).adversarial > 0]


def balanced(pull: Tensor, gradient: Tensor) -> Tensor:
    """`pull` scaled, for each sample, to the norm of the squared error's gradient; both [B, …]."""
    norm = pull.flatten(1).norm(dim=1)
    scale = torch.where(norm > 0, gradient.flatten(1).norm(dim=1) / norm, 0.0)
    return pull * scale.view(-1, *[1] * (pull.dim() - 1))
