"""A batch of windows as one function of (x, sigma, step): direction, guidance, known cells, step cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.denoiser import Conditioning
from viewtime.sample.models.grid_model import GridModel, Request, stack_conditions
from viewtime.sample.solver.cache import StepCache
from viewtime.sample.solver.guidance import Guidance, combine

from .processes import Half


@dataclass(frozen=True)
class _Side:
    """Everything of one direction, for all windows of the batch."""

    order: Tensor  # [F] positions of the window's frames as the network sees them
    back: Tensor  # the inverse permutation
    cond: Conditioning
    uncond: Conditioning | None
    known: Tensor | None  # [B, V, F]
    values: Tensor | None  # [B, V, F, C, h, w]


class WindowDenoiser:
    """Guided x0 prediction for windows of equal shape that are sampled together.

    Args:
        requests: one list per window, one request per direction.
        split_guidance: evaluate the two branches of guidance one after the other, which halves the memory.
        cache: predictions to reuse; None evaluates the network at every call.
        half: of a pair of processes that sample these windows together; None samples them alone.
    """

    def __init__(
        self,
        model: GridModel,
        requests: Sequence[Sequence[Request]],
        guidance: Guidance,
        *,
        split_guidance: bool = False,
        cache: StepCache | None = None,
        half: Half | None = None,
    ) -> None:
        self.model, self.guidance = model, guidance
        self.split_guidance, self.cache, self.half = split_guidance, cache or StepCache(), half
        self.sides = [self._side([window[number] for window in requests]) for number in range(len(requests[0]))]
        first = requests[0][0]
        self.scale = guidance.scale(len(first.views), len(first.frames)).to(model.device)
        if guidance.kind != "none" and any(side.uncond is None for side in self.sides):
            raise UserError(
                f"{model.traits.name} has nothing to guide by here (no unconditional branch); "
                "--sampler.guidance must be none"
            )

    def _side(self, requests: Sequence[Request]) -> _Side:
        device = self.model.device
        first = requests[0]
        order = torch.tensor([first.window.frames.index(frame) for frame in first.frames], device=device)
        pairs = [self.model.conditions(request) for request in requests]
        unconditional = [pair[1] for pair in pairs if pair[1] is not None]
        clean = [self.model.clean(request) for request in requests]
        present = [item for item in clean if item is not None]
        return _Side(
            order,
            torch.argsort(order),
            stack_conditions([pair[0] for pair in pairs]),
            stack_conditions(unconditional) if len(unconditional) == len(pairs) else None,
            torch.stack([item[0] for item in present]).to(device) if present else None,
            torch.stack([item[1] for item in present]).to(device) if present else None,
        )

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        """Prediction of x0 [B, V, F, C, h, w], frames in the window's own order."""
        number = step % len(self.sides)
        reused = self.cache.reuse(x, sigma, step, number)
        if reused is not None:
            return reused
        side = self.sides[number]
        denoised = self._evaluate(side, x[:, :, side.order], sigma, step)
        if side.known is not None and side.values is not None:
            denoised = torch.where(side.known[..., None, None, None], side.values.to(denoised), denoised)
        denoised = denoised[:, :, side.back]
        self.cache.remember(denoised, sigma, step, number)
        return denoised

    def _evaluate(self, side: _Side, x: Tensor, sigma: float, step: int) -> Tensor:
        denoiser = self.model.denoiser
        sigmas = torch.full((len(x),), sigma, device=x.device, dtype=torch.float32)
        if not self.guidance.active(sigma) or side.uncond is None:
            return denoiser(x, sigmas, side.cond)
        difference = self.cache.difference(step)
        if difference is not None:
            conditional = denoiser(x, sigmas, side.cond)
            return conditional + (self.scale.to(x)[..., None, None, None] - 1) * difference
        if self.half is not None:
            mine = denoiser(x, sigmas, side.cond if self.half.number else side.uncond)
            unconditional, conditional = self.half.exchange(mine)
        elif self.split_guidance:
            unconditional, conditional = denoiser(x, sigmas, side.uncond), denoiser(x, sigmas, side.cond)
        else:
            both = stack_conditions([side.uncond, side.cond])
            unconditional, conditional = denoiser(x.repeat(2, 1, 1, 1, 1, 1), sigmas.repeat(2), both).chunk(2)
        self.cache.remember_difference(conditional - unconditional)
        return combine(conditional, unconditional, self.scale)
