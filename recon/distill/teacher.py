"""One guidance with its prompt and what is done with its predictions: a render in, named losses out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError

from .guidance.base import CameraCopy, Draws, Guidance, Kind, Rendered
from .losses import one_step, reconstruction, sds, vsd
from .losses.guided import add_noise, guided
from .objectives import Objective, OneStep, Reconstruction, Sds, Vsd
from .resize import resized
from .scalars import value_at

ENTRIES = {
    Kind.IMAGE: "b v f ... -> (b v f) ...",
    Kind.MULTI_VIEW: "b v 1 ... -> (b v) ...",
    Kind.VIDEO: "b v f ... -> (b v) f ...",
    Kind.GRID: "b v f ... -> (b v) f ...",
}
"""What counts as one entry N of a loss: a picture, or a video whose frames are summed over."""


@dataclass(frozen=True)
class Teacher:
    """A guidance in use.

    Attributes:
        guidance: the frozen denoiser; prompt: of the class that it asks for.
        objective: the loss, its scale and its timesteps.
        copy: VSD's trainable copy; None for all other objectives.
        copy_prompt: the copy's prompt, without view words in 4D-fy; None takes `prompt`.
    """

    guidance: Guidance
    prompt: Any
    objective: Objective
    copy: CameraCopy | None = None
    copy_prompt: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.objective, Vsd) != (self.copy is not None):
            raise UserError(f"{self.guidance.traits.name}: a trainable copy goes with VSD, and with VSD alone")

    def losses(self, rendered: Rendered, step: int, draws: Draws) -> dict[str, Tensor]:
        """One step's losses, unweighted, each [], with gradient to the render (and "lora" to the copy).

        Names: "sds", "vsd" and "lora", "latent" and "color", by the objective.

        Args:
            rendered: see `Rendered`; step: global step of the run; draws: the step's random numbers.

        Raises:
            UserError: the batch's views or frames do not fit the guidance.
        """
        latents = self.guidance.encode(rendered, draws)
        match self.objective:
            case Sds():
                return {"sds": self._sds(self.objective, latents, rendered, step, draws)}
            case Reconstruction():
                return {"sds": self._reconstruction(self.objective, latents, rendered, step, draws)}
            case Vsd():
                return self._vsd(self.objective, latents, rendered, step, draws)
            case OneStep():
                return self._one_step(self.objective, latents, rendered, step, draws)

    def _entries(self, cells: Tensor) -> Tensor:
        """[B, V, F, ...] -> [N, ...]."""
        return rearrange(cells, ENTRIES[self.guidance.traits.kind])

    def _timesteps(self, latents: Tensor, step: int, draws: Draws) -> Tensor:
        """int64 [B, V, F]: one per entry of the loss, or per scene where views are looked at together."""
        B, V, F = latents.shape[:3]
        shape = {Kind.IMAGE: (B, V, F), Kind.VIDEO: (B, V, 1)}.get(self.guidance.traits.kind, (B, 1, 1))
        bounds = self.objective.timesteps.at(step, len(self.guidance.traits.schedule))
        drawn = draws.timesteps("t", torch.Size(shape).numel(), *bounds)
        return drawn.reshape(shape).expand(B, V, F).to(latents.device)

    def _shared_timestep(self, step: int, draws: Draws) -> int:
        """One timestep for the whole batch."""
        bounds = self.objective.timesteps.at(step, len(self.guidance.traits.schedule))
        return int(draws.timesteps("t", 1, *bounds))

    def _noisy(self, latents: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        B, V, F = latents.shape[:3]
        a = self.guidance.traits.schedule.at(timesteps.flatten())
        flat = add_noise(latents.detach().flatten(0, 2), noise.flatten(0, 2), a)
        return flat.unflatten(0, (B, V, F))

    def _entry_alpha_bar(self, timesteps: Tensor) -> Tensor:
        """a [N] of the entries."""
        per_entry = self._entries(timesteps)
        return self.guidance.traits.schedule.at(per_entry if per_entry.ndim == 1 else per_entry[:, 0])

    def _sds(self, objective: Sds, latents: Tensor, rendered: Rendered, step: int, draws: Draws) -> Tensor:
        timesteps = self._timesteps(latents, step, draws)
        noise = draws.normal("noise", latents)
        noisy = self._noisy(latents, timesteps, noise)
        conditional, unconditional = self.guidance.predict(noisy, timesteps, rendered.cameras, self.prompt)
        return sds.sds_loss(
            self._entries(latents),
            self._entries(noise),
            self._entry_alpha_bar(timesteps),
            self._entries(conditional),
            self._entries(unconditional),
            scale=objective.scale,
            form=objective.form,
            weighting=objective.weighting,
            clamp=None if objective.clamp is None else value_at(objective.clamp, step),
            motion=objective.motion,
        )

    def _reconstruction(
        self, objective: Reconstruction, latents: Tensor, rendered: Rendered, step: int, draws: Draws
    ) -> Tensor:
        timesteps = _everywhere(self._shared_timestep(step, draws), latents)
        noisy = self._noisy(latents, timesteps, draws.normal("noise", latents))
        conditional, unconditional = self.guidance.predict(noisy, timesteps, rendered.cameras, self.prompt)
        target = reconstruction.reconstruction_target(
            self._entries(noisy),
            self._entry_alpha_bar(timesteps),
            self._entries(conditional),
            self._entries(unconditional),
            scale=objective.scale,
            form=objective.form,
            rescale=objective.rescale,
            views=self.guidance.traits.views,
        )
        return reconstruction.reconstruction_loss(self._entries(latents), target)

    def _vsd(self, objective: Vsd, latents: Tensor, rendered: Rendered, step: int, draws: Draws) -> dict[str, Tensor]:
        assert self.copy is not None
        copy_prompt = self.prompt if self.copy_prompt is None else self.copy_prompt
        timesteps = self._timesteps(latents, step, draws)
        noisy = self._noisy(latents, timesteps, draws.normal("noise", latents))
        first = guided(*self.guidance.predict(noisy, timesteps, rendered.cameras, self.prompt), objective.scale, "B")
        second = guided(
            *self.copy.predict(noisy, timesteps, rendered.cameras, copy_prompt), objective.scale_of_copy, "B"
        )
        a = self._entry_alpha_bar(timesteps)
        scene = vsd.vsd_loss(self._entries(latents), a, self._entries(first), self._entries(second))
        return {"vsd": scene, "lora": self._copy_loss(objective, latents.detach(), rendered, copy_prompt, draws)}

    def _copy_loss(self, objective: Vsd, latents: Tensor, rendered: Rendered, prompt: Any, draws: Draws) -> Tensor:
        """The copy learns the renders' score, at timesteps of its own over the whole schedule."""
        assert self.copy is not None
        B, V, F = latents.shape[:3]
        timesteps = draws.timesteps("lora_t", B * V * F, 0, len(self.copy.schedule) - 1).to(latents.device)
        noise = draws.normal("lora_noise", latents)
        a = self.copy.schedule.at(timesteps)
        noisy = add_noise(latents.flatten(0, 2), noise.flatten(0, 2), a).unflatten(0, (B, V, F))
        prediction = self.copy.train_prediction(
            noisy,
            timesteps.reshape(B, V, F),
            rendered.cameras,
            prompt,
            drop_camera=draws.uniform("drop_camera", 1).item() < objective.camera_dropped,
        )
        flat = [value.flatten(0, 2) for value in (prediction, latents, noise)]
        return vsd.copy_loss(*flat, alpha_bar=a, predicts=self.copy.predicts)

    def _one_step(
        self, objective: OneStep, latents: Tensor, rendered: Rendered, step: int, draws: Draws
    ) -> dict[str, Tensor]:
        schedule, start = self.guidance.traits.schedule, self._shared_timestep(step, draws)
        x = self._noisy(latents, _everywhere(start, latents), draws.normal("noise", latents))
        for number, (now, then) in enumerate(one_step.ddim_steps(start, objective.steps, len(schedule))):
            found = self.guidance.predict(x, _everywhere(now, x), rendered.cameras, self.prompt)
            predicted = guided(*found, objective.scale, objective.form)
            a, b = (schedule.at(torch.tensor([t], device=x.device)) for t in (now, then))
            x = one_step.ddim_update(x, predicted, a, b, draws.normal(f"step{number}", x))
        losses = {"latent": one_step.latent_loss(self._entries(latents), self._entries(x))}
        if objective.color:
            frames = resized(rendered.color, self.guidance.traits.size)
            with torch.no_grad():
                target = self.guidance.decode(x)
            losses["color"] = one_step.color_loss(self._entries(frames), self._entries(target))
        return losses


def _everywhere(timestep: int, cells: Tensor) -> Tensor:
    """One timestep for all cells of [B, V, F, ...], int64 [B, V, F]."""
    return torch.full(cells.shape[:3], timestep, device=cells.device)
