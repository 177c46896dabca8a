"""One call for every trained network: `denoiser(x, sigma, cond) -> x0`.

A network predicts something (v, noise, velocity); a scaling turns that into the clean value. All three scalings here
have the form of EDM (Karras et al. 2022, eq. 7): `x0 = c_skip x + c_out network(c_in x, noise_label, cond)`.
For both schedule kinds `dx/dsigma = (x - x0) / sigma`, so that one sampler serves them; in a rectified flow
"sigma" is the time t in (0, 1] with `x_t = (1 - t) x0 + t noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

ScheduleKind = Literal["edm", "flow"]
Conditioning = dict[str, Tensor]

SMALLEST_LABELLED_SIGMA = 1e-4
"""Cells without noise (sigma 0) carry the noise label of this sigma, where the logarithm is still finite."""


class Denoiser(Protocol):
    """What samplers, guidance, distillation and training see."""

    schedule_kind: ScheduleKind
    in_channels: int

    def __call__(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """Predict the clean value.

        Args:
            x: noisy values [B, V, F, C, H, W].
            sigma: noise level per sample [B] or per cell [B, V, F].
            cond: conditioning tensors, batch first.

        Returns:
            x0 [B, V, F, C, H, W], float32.
        """
        ...


class Coefficients(NamedTuple):
    """Factors of one noise level, each of the shape of sigma."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    noise_label: Tensor


class Scaling(Protocol):
    """How a network's prediction becomes the clean value."""

    schedule_kind: ScheduleKind

    def coefficients(self, sigma: Tensor) -> Coefficients: ...


@dataclass(frozen=True)
class VScaling:
    """v-prediction with EDM's noise label, as SVD, SV3D and SV4D were trained; data of unit variance."""

    schedule_kind: ScheduleKind = "edm"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        total = sigma.square() + 1
        return Coefficients(1 / total, -sigma / total.sqrt(), 1 / total.sqrt(), _edm_label(sigma))


@dataclass(frozen=True)
class EdmScaling:
    """EDM's own preconditioning (Karras et al. 2022, table 1)."""

    sigma_data: float = 0.5
    schedule_kind: ScheduleKind = "edm"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        total = sigma.square() + self.sigma_data**2
        return Coefficients(
            self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), 1 / total.sqrt(), _edm_label(sigma)
        )


@dataclass(frozen=True)
class FlowScaling:
    """Rectified flow: the network predicts the velocity noise - x0 and sees the time as 1000 t."""

    schedule_kind: ScheduleKind = "flow"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(sigma), -sigma, torch.ones_like(sigma), 1000 * sigma)


@dataclass(frozen=True)
class FlowCleanScaling:
    """Rectified flow whose network predicts the clean value itself and sees the time t as it is.

    The input is scaled to the best linear estimate of x0 for data of unit variance, (1 - t) / ((1 - t)² + t²), so
    that noise without information does not reach the network: at t = 1 it sees zeros.
    """

    schedule_kind: ScheduleKind = "flow"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        signal = 1 - sigma
        c_in = signal / (signal.square() + sigma.square())
        return Coefficients(torch.zeros_like(sigma), torch.ones_like(sigma), c_in, sigma)


SCALINGS = {"v": VScaling, "edm": EdmScaling, "flow": FlowScaling, "flow-clean": FlowCleanScaling}


def _edm_label(sigma: Tensor) -> Tensor:
    return sigma.clamp_min(SMALLEST_LABELLED_SIGMA).log() / 4


class NetworkDenoiser(nn.Module):
    """A network inside a scaling; satisfies `Denoiser`.

    Args:
        network: called as `network(c_in x, noise_label, cond)` with x [B, V, F, C, H, W] and noise_label [B, V, F].
        scaling: what the network predicts.
        in_channels: channels C of x.
    """

    def __init__(self, network: nn.Module, scaling: Scaling, in_channels: int):
        super().__init__()
        self.network = network
        self.scaling = scaling
        self.in_channels = in_channels

    @property
    def schedule_kind(self) -> ScheduleKind:
        return self.scaling.schedule_kind

    def forward(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """Clean value [B, V, F, C, H, W] in float32; sigma [B] or [B, V, F]. The scaling is done in float32."""
        per_cell = cell_sigma(sigma, x)
        c_skip, c_out, c_in, noise_label = self.scaling.coefficients(per_cell)
        prediction = self.network(_cells(c_in) * x, noise_label, cond)
        return _cells(c_skip) * x.float() + _cells(c_out) * prediction.float()


def cell_sigma(sigma: Tensor, x: Tensor) -> Tensor:
    """Noise level per cell [B, V, F] in float32, from [B] or [B, V, F]; a single value [] holds for all cells."""
    grid = x.shape[:3]
    sigma = sigma.to(device=x.device, dtype=torch.float32)
    if sigma.ndim == 1:
        sigma = sigma[:, None, None]
    if sigma.ndim not in (0, 3) or any(have not in (1, want) for have, want in zip(sigma.shape, grid)):
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}; it must be [B] or [B, V, F] of x {tuple(x.shape)}")
    return sigma.expand(grid)


def loss_weight(scaling: Scaling, sigma: Tensor) -> Tensor:
    """Weight of |x0 - target|² that makes the network's own output error count 1 at every noise level: 1 / c_out²."""
    return scaling.coefficients(sigma.clamp_min(SMALLEST_LABELLED_SIGMA)).c_out.square().reciprocal()


def add_noise(kind: ScheduleKind, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Forward process: x0 + sigma noise (edm), or (1 - t) x0 + t noise (flow); sigma [B] or [B, V, F]."""
    level = _cells(cell_sigma(sigma, clean))
    return clean + level * noise if kind == "edm" else (1 - level) * clean + level * noise


def _cells(value: Tensor) -> Tensor:
    return value[..., None, None, None]
