"""Moving Gaussians as a scene of score distillation: splatted, displaced by a grid over space and time."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from viewtime.configs.schema.distill_scene import BackgroundOptions, FieldOptions, RenderOptions
from viewtime.errors import UserError
from viewtime.recon.gaussians.canonical import Gaussians, spacing_scale
from viewtime.recon.render.renderer import render
from viewtime.recon.render.splats import Viewpoints

from ..guidance.base import Draws
from .background import Background
from .motion import Displacement
from .scene import Plan, Scene, Shot

START_RADIUS, START_OPACITY = 0.5, 0.1


class GaussianScene(Scene):
    """See `Scene`; the parts of a shot are pictures. Groups: static (places, sizes, turns), networks (colour, opacity).

    A Gaussian of the canonical instant is moved forward by the displacement at its place, where a hash field's sample
    is moved back; so tracks come for nothing and only the motions "warp" and "offset" exist.
    """

    def __init__(self, field: FieldOptions, background: BackgroundOptions, options: RenderOptions) -> None:
        super().__init__()
        if field.motion == "grid":
            raise UserError("--scene.kind gaussians moves by a displacement: use --scene.motion offset or warp")
        self.options, self._moving = options, False
        direction = nn.functional.normalize(torch.randn(field.gaussians, 3), dim=1)
        position = START_RADIUS * direction * torch.rand(field.gaussians, 1) ** (1 / 3)
        colour = torch.full_like(position, 0.5)
        self.gaussians = Gaussians(position, spacing_scale(position), colour, isotropic=False, opacity=START_OPACITY)
        self.displacement = Displacement(field, squashed=field.motion == "warp")
        self.background = Background(background)

    @property
    def moving(self) -> bool:
        return self._moving

    @moving.setter
    def moving(self, on: bool) -> None:
        self._moving = on

    def advance(self, step: int, spread: float) -> None:
        del spread
        self.displacement.advance(step)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        g = self.gaussians
        return {
            "static": [g.position, g.log_scale, g.quaternion],
            "networks": [g.opacity_logit, g.colour],
            "dynamic": list(self.displacement.encoding.parameters()),
            "motion_network": list(self.displacement.network.parameters()),
            "background": list(self.background.parameters()),
        }

    def moved(self, time: Tensor) -> Tensor:
        """Displacement [N, 3] of all Gaussians at an instant [], in edges of the cube."""
        position = self.gaussians.position
        if not self.moving:
            return torch.zeros_like(position)
        unit = ((position + 1) / 2).clamp(0, 1)
        return self.displacement(torch.cat([unit, time.to(unit).expand(len(unit), 1)], dim=1))

    def plan(self, shot: Shot, draws: Draws, *, training: bool = True) -> Plan:
        B, V, F = shot.grid
        pixels = shot.height * shot.width
        per_part = max(1, self.options.at_once // pixels) if self.options.at_once else B * V * F
        replacement = self.replacement(shot, draws, training).to(self.gaussians.position.device)
        views = [Viewpoints.of(cameras, shot.height, shot.width) for cameras in shot.cameras]
        joined = Viewpoints(
            torch.cat([view.world_to_camera for view in views]), torch.cat([view.focal for view in views]),
            torch.cat([view.centre for view in views]), shot.height, shot.width,
        ).to(self.gaussians.position.device)  # fmt: skip
        return Plan(shot, -(-B * V * F // per_part), replacement, (joined, shot.directions(), per_part))

    def draw(self, plan: Plan, part: int) -> Tensor:
        views, directions, per_part = plan.held
        B, V, F = plan.shot.grid
        chosen = slice(part * per_part, (part + 1) * per_part)
        frame = torch.arange(F).repeat(B * V)[chosen]
        g, shown = self.gaussians, views[chosen]
        moves = {f: self.moved(plan.shot.times[f]) for f in sorted(set(frame.tolist()))}
        moved = torch.stack([moves[f] for f in frame.tolist()])
        means, covariance, opacity = g.position + 2 * moved, g.covariance()[None], g.opacity()[None]
        picture = render(means, covariance, opacity, g.colour[None], shown)
        paths = render(means, covariance, opacity, moved, shown) if self.moving else None
        directions = rearrange(directions, "b v f h w c -> (b v f) h w c")[chosen].to(means)
        replacement = repeat(
            plan.replacement[frame.to(plan.replacement.device)], "n c -> (n h w) c", h=shown.height, w=shown.width
        )
        behind = self.behind(rearrange(directions, "n h w c -> (n h w) c"), replacement)
        rgb, alpha = (rearrange(value, "n c h w -> (n h w) c") for value in (picture.rgb, picture.alpha))
        displaced = torch.zeros_like(rgb) if paths is None else rearrange(paths.rgb, "n c h w -> (n h w) c")
        return torch.cat([rgb, alpha, behind, displaced], dim=1)
