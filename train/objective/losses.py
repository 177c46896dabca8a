"""The denoising loss: noise levels, noised grids and weights, for EDM and for rectified flow.

Every random number of a sample comes from a generator seeded with (seed, sample index), so the loss of a sample
does not depend on its batch, its process or on what was trained before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.configs.load import build
from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import Stage, TrainConfig
from viewtime.errors import UserError
from viewtime.run_folder import plain
from viewtime.train.transfer import to_device

Cond = dict[str, Tensor]


@dataclass(frozen=True)
class Noised:
    """A noised batch.

    Attributes:
        x: [B, V, F, C, H, W]; clean at known cells.
        sigma: what the denoiser is called with: [B, V, F] (0 at known cells), or [B] where known cells are ignored.
        level: noise level of each sample, [B].
        unknown: cells that carry loss, bool [B, V, F].
    """

    x: Tensor
    sigma: Tensor
    level: Tensor
    unknown: Tensor


def sample_generator(seed: int, index: int, purpose: int = 0) -> torch.Generator:
    """CPU generator of one sample; `purpose` separates independent uses of the same sample."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + purpose * 0x94D049BB133111EB) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    return torch.Generator().manual_seed((mixed ^ (mixed >> 27)) % 2**63)


def stage_loss(config: TrainConfig, stage: Stage) -> LossSection:
    """The loss of a stage: `config.loss` with the stage's keys over it.

    Raises:
        UserError: an unknown key, a bad value, or a loss of outlines on latents, whose fourth channel is no alpha.
    """
    loss = config.loss
    if stage.loss:
        loss = build(LossSection, {**plain(config.loss), **stage.loss}, f"stage {stage.name}: loss")
    if loss.outline and {**config.data.options, **stage.data}.get("kind") == "latents":
        raise UserError("loss.outline needs alpha, but data.options.kind is latents; set loss.outline to 0")
    return loss


def masks_from_stream(config: TrainConfig, loss: LossSection) -> bool:
    """Whether the stream's own `known` cells are those without loss."""
    return loss.known_cells != "ignored" and not config.conditioning.masking


def draw_level(loss: LossSection, generator: torch.Generator) -> float:
    """One noise level: t in (0, 1] for flow, sigma for EDM (log-normal; EDM, table 1)."""
    normal = torch.randn((), generator=generator, dtype=torch.float64)
    uniform = torch.rand((2,), generator=generator, dtype=torch.float64)
    if loss.kind == "edm":
        return float(torch.exp(loss.log_sigma_mean + loss.log_sigma_std * normal))
    if float(uniform[0]) < loss.point_mass:
        return loss.point_mass_from + (1 - loss.point_mass_from) * float(uniform[1])
    t = torch.sigmoid(loss.logit_mean + loss.logit_std * normal) if loss.times == "logit_normal" else 1 - uniform[1]
    return float(loss.shift * t / (1 + (loss.shift - 1) * t))


def draw_noise(shape: torch.Size, loss: LossSection, generator: torch.Generator) -> Tensor:
    """Standard normal noise of one sample, [V, F, C, H, W]."""
    if loss.frame_noise == "independent":
        return torch.randn(shape, generator=generator)
    return torch.randn((shape[0], 1, *shape[2:]), generator=generator).expand(shape)


def add_noise(x0: Tensor, sigma: Tensor, noise: Tensor, kind: str) -> Tensor:
    """x0, noise [B, V, F, C, H, W]; sigma broadcastable -> (1 − t) x0 + t e, or x0 + sigma e."""
    return (1 - sigma) * x0 + sigma * noise if kind == "flow" else x0 + sigma * noise


def noised_batch(
    x0: Tensor, known: Tensor | None, loss: LossSection, generators: list[torch.Generator], level: float | None = None
) -> Noised:
    """Draw noise and a level for each sample; known cells stay clean unless the loss ignores them.

    Args:
        x0: [B, V, F, C, H, W].
        known: bool [B, V, F] or None (nothing known).
        generators: one for each sample.
        level: this noise level for every sample instead of drawn ones.

    """
    levels, noises = [], []
    for generator in generators:
        drawn = draw_level(loss, generator)
        levels.append(drawn if level is None else level)
        noises.append(draw_noise(x0.shape[1:], loss, generator))
    per_sample = to_device(torch.tensor(levels, dtype=torch.float32), x0.device)
    noise = to_device(torch.stack(noises), x0.device, x0.dtype)
    if loss.known_cells == "ignored" or known is None:
        unknown = torch.ones(x0.shape[:3], dtype=torch.bool, device=x0.device)
    else:
        unknown = ~known
    cell_sigma = per_sample[:, None, None] * unknown
    x = add_noise(x0, cell_sigma[..., None, None, None], noise, loss.kind)
    return Noised(x, per_sample if loss.known_cells == "ignored" else cell_sigma, per_sample, unknown)


def weight(level: Tensor, loss: LossSection) -> Tensor:
    """Weight of the squared error in x0, [B].

    "v" is the velocity loss of rectified flow, |v − v̂|² = |x0 − x̂0|² / t², with t floored; "edm" is lambda(sigma) of
    EDM, table 1; "min_snr" is min(SNR, gamma) (Hang et al. 2023).
    """
    if loss.weighting == "v":
        return level.clamp_min(loss.weight_floor) ** -2
    if loss.weighting == "edm":
        return (level**2 + loss.sigma_data**2) / (level * loss.sigma_data) ** 2
    if loss.weighting == "min_snr":
        signal_to_noise = ((1 - level) / level if loss.kind == "flow" else 1 / level) ** 2
        return signal_to_noise.clamp_max(loss.min_snr_gamma)
    return torch.ones_like(level)


def sample_errors(denoised: Tensor, x0: Tensor, unknown: Tensor) -> Tensor:
    """Mean squared error over each sample's unknown cells, [B]; the mean over channels and pixels comes first."""
    return _mean_over((denoised.float() - x0).square().mean(dim=(-3, -2, -1)), unknown)


def outline_errors(denoised: Tensor, x0: Tensor, unknown: Tensor) -> Tensor:
    """1 − soft IoU of alpha, the mean over each sample's unknown cells, [B] (Liu et al. 2019, Soft Rasterizer).

    Raises:
        UserError: the grid has no alpha channel.
    """
    if x0.shape[3] != 4:
        raise UserError(f"loss.outline needs RGBA grids; these have {x0.shape[3]} channels")
    made, true = ((grid[:, :, :, 3].float().clamp(-1, 1) + 1) / 2 for grid in (denoised, x0))
    both = (made * true).sum(dim=(-2, -1))
    either = (made + true - made * true).sum(dim=(-2, -1))
    return _mean_over(1 - both / either.clamp_min(1.0), unknown)


def _mean_over(per_cell: Tensor, unknown: Tensor) -> Tensor:
    """[B, V, F] -> the mean over each sample's unknown cells, [B]."""
    return (per_cell * unknown).flatten(1).sum(1) / unknown.flatten(1).sum(1)


def denoising_loss(denoised: Tensor, x0: Tensor, noised: Noised, loss: LossSection) -> tuple[Tensor, Tensor]:
    """(scalar loss, loss of each sample [B] detached)."""
    per_sample = weight(noised.level, loss) * sample_errors(denoised, x0, noised.unknown)
    if loss.outline:
        per_sample = per_sample + loss.outline * outline_errors(denoised, x0, noised.unknown)
    return per_sample.mean(), per_sample.detach()


def denoised_at_known(denoised: Tensor, x0: Tensor, unknown: Tensor) -> Tensor:
    """The prediction with the given cells put back, for pictures and metrics."""
    return torch.where(unknown[..., None, None, None], denoised.to(x0), x0)
