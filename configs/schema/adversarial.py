"""Schema of the critic of adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

from viewtime.errors import UserError


@dataclass(frozen=True)
class CriticSection:
    """The critic; it exists where a stage's `loss.adversarial` is above 0.

    Attributes:
        width: channels at half resolution.
        lr: of its AdamW (betas 0 and 0.99).
        penalty: weight of the approximate gradient penalty on real grids.
        penalty_noise: standard deviation of the perturbation that the penalty compares with.
        warmup_steps: the pull on the model rises linearly over the critic's first steps.
    """

    width: int = 32
    lr: float = 5e-4
    penalty: float = 20.0
    penalty_noise: float = 0.1
    warmup_steps: int = 200

    def __post_init__(self) -> None:
        if self.width < 1 or self.lr <= 0 or self.penalty_noise <= 0 or min(self.penalty, self.warmup_steps) < 0:
            raise UserError("critic: width, lr and penalty_noise must be above 0, penalty and warmup_steps not below")
