"""Schema of the denoising loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from viewtime.errors import UserError


@dataclass(frozen=True)
class LossSection:
    """Noise levels and weights of the denoising loss.

    Attributes:
        kind: "flow" (x_t = (1 − t) x0 + t e) or "edm" (x = x0 + sigma e).
        times: flow: how t is drawn.
        logit_mean: of the logit-normal.
        logit_std: of the logit-normal.
        shift: flow: t -> s t / (1 + (s − 1) t); above 1 moves mass to high noise.
        point_mass: flow: share of samples drawn at t uniform in [point_mass_from, 1].
        point_mass_from: lower end of that interval.
        log_sigma_mean: of EDM's log-normal noise levels.
        log_sigma_std: of EDM's log-normal noise levels.
        sigma_data: EDM's standard deviation of the data.
        weighting: of the squared error in x0. "v": 1/max(t, floor)^2; "edm": (s²+d²)/(s d)²; "x0": 1;
            "min_snr": min(SNR, gamma).
        weight_floor: smallest t in the "v" weight.
        min_snr_gamma: of "min_snr".
        known_cells: "clean": known cells are given clean at noise level 0 and carry no loss; "ignored": one noise
            level per sample and loss on every cell (the network takes its condition another way).
        frame_noise: "shared": the frames of a view get the same noise, so that what the noise decides is decided alike
            (Ge et al. 2023, "Preserve your own correlation", with full correlation). The weight file says so and is
            sampled so by default, but for 4real, which needs `--sampler.frame-noise shared`.
        adversarial: strength of a critic's pull on the prediction, as a share of the squared error's own; see
            `viewtime.train.objective.adversarial`.
        outline: weight of 1 − soft IoU of the alpha channel (Liu et al. 2019, Soft Rasterizer), for flows of RGBA
            pixels. The squared error leaves alpha between 0 and 1 wherever it is unsure; this decides, so that masks
            overlap most.
        solid: weight of what the input view's solid itself lacks: cross-entropy and 1 − soft IoU of how opaque its
            cells are against those that the object fills (`data.options.on_the_fly.solid`); of mini with a frustum.
        perceptual: weight of ST-LPIPS (Ghildyal and Liu 2022) between the solid's pictures at the full size and the
            truth, in `perceptual_pictures` cells of a batch; of the same, with the extra `metrics`.
        perceptual_pictures: see `perceptual`.
        drafted: flow: share of samples that are noised from the model's own prediction at t = 1 instead of the truth,
            at a t drawn without the point mass; see `viewtime.train.objective.drafts`.
    """

    kind: Literal["flow", "edm"] = "flow"
    times: Literal["logit_normal", "uniform"] = "logit_normal"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 1.0
    point_mass: float = 0.0
    point_mass_from: float = 0.98
    log_sigma_mean: float = 0.7
    log_sigma_std: float = 1.6
    sigma_data: float = 0.5
    weighting: Literal["v", "x0", "edm", "min_snr"] = "v"
    weight_floor: float = 0.1
    min_snr_gamma: float = 5.0
    known_cells: Literal["clean", "ignored"] = "clean"
    frame_noise: Literal["independent", "shared"] = "independent"
    adversarial: float = 0.0
    outline: float = 0.0
    solid: float = 0.0
    perceptual: float = 0.0
    perceptual_pictures: int = 8
    drafted: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drafted <= 1:
            raise UserError(f"loss.drafted is {self.drafted}; it is a share between 0 and 1")
        if self.drafted and (self.kind, self.known_cells) != ("flow", "clean"):
            raise UserError('loss.drafted needs loss.kind "flow" and loss.known_cells "clean"')
        if self.adversarial < 0 or (self.adversarial > 0 and self.known_cells == "ignored"):
            raise UserError(
                f'loss.adversarial is {self.adversarial}; it needs loss.known_cells "clean" and is not below 0'
            )
        if self.outline < 0:
            raise UserError(f"loss.outline is {self.outline}; it must not be below 0")
        if self.outline and (self.kind, self.known_cells) != ("flow", "clean"):
            raise UserError('loss.outline needs loss.kind "flow" and loss.known_cells "clean"')
        for name in ("solid", "perceptual"):
            if getattr(self, name) < 0:
                raise UserError(f"loss.{name} is {getattr(self, name)}; it must not be below 0")
        if self.perceptual_pictures < 1:
            raise UserError(f"loss.perceptual_pictures is {self.perceptual_pictures}; must be at least 1")
        if self.kind == "edm" and self.weighting == "v":
            raise UserError('loss.weighting "v" needs loss.kind "flow"; use "edm", "x0" or "min_snr"')
        if self.kind == "flow" and self.weighting == "edm":
            raise UserError('loss.weighting "edm" needs loss.kind "edm"; use "v", "x0" or "min_snr"')
        if not 0 <= self.point_mass <= 1:
            raise UserError(f"loss.point_mass is {self.point_mass}; it is a share between 0 and 1")
