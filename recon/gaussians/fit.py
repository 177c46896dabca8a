"""The fit of deformable Gaussians: a static stage on the canonical frame, then all frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.fitting.loop import Progress
from viewtime.recon.fitting.points import farthest_points
from viewtime.recon.fitting.schedule import Schedule, pick_views
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.renderer import Picture, render
from viewtime.recon.render.splats import spread

from .canonical import Gaussians
from .compensation import Compensation
from .densify import Densifier, separate
from .fused import cell_errors, is_fused
from .initialise import OUT_OF_SIGHT, starting_tracks
from .motion import ControlPointMotion, FreeMotion, MlpMotion, Motion

RATES = {"position": 5e-4, "log_scale": 5e-3, "opacity_logit": 3e-2, "colour": 1e-2, "quaternion": 5e-3}
REGULARISER_WEIGHT = 0.02
PRUNE_EVERY = 150
ROBUST_SCALE = 0.1


class GaussianFit:
    """All state of one fit; `step` does one iteration, `save` and `restore` make it resumable.

    Pictures, Gaussians and motion live on the device of the targets; what is drawn at random is drawn on the CPU, so
    that a seed means the same everywhere.
    """

    def __init__(self, targets: Targets, gaussians: Gaussians, config: ReconstructConfig) -> None:
        self.targets, self.config = targets, config
        self.device = targets.images.device
        self.usable = targets.usable.cpu()
        position = gaussians.position.detach()
        control = position[farthest_points(position, 40)]
        self.gaussians = gaussians.to(self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.motion: Motion | None = None
        V, F, _, _ = targets.shape
        self.compensation = Compensation(config.imperfect, V, F, control).to(self.device)
        self.cell_error = torch.zeros(V, F)
        self.progress = Progress()
        self.schedule = Schedule(F, config.gaussians.dynamic_iterations, config.gaussians.curriculum)
        self.entered = {0}
        options = config.gaussians
        self.densifier = Densifier(options.densify, options.dynamic_iterations, len(gaussians), self.device)
        self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Adam:
        rate = self.config.gaussians.learning_rate
        groups = [
            {"params": [p], "lr": RATES[name] * rate, "name": name, "per_gaussian": True}
            for name, p in self.gaussians.named_parameters()
        ]
        groups += self.compensation.groups(rate)
        if self.motion is not None:
            groups += self.motion.groups(rate)
        for group in groups:
            group["base"] = group["lr"]
        return torch.optim.Adam(groups, eps=1e-15, fused=True)

    def start_motion(self) -> None:
        """End of the static stage: the motion model is built on the Gaussians that are left."""
        options, frames = self.config.gaussians, self.targets.shape[1]
        position = self.gaussians.position.detach().cpu()
        if options.motion == "control_points":
            moving = self.gaussians.moving
            carried = position if moving is None or not moving.any() else position[moving.cpu()]
            centres = carried[farthest_points(carried, options.control_points)]
            self.motion = ControlPointMotion(centres, position, frames)
        elif options.motion == "free":
            self.motion = FreeMotion(position, frames)
        else:
            self.motion = MlpMotion(frames)
        tracks = starting_tracks(self.config, frames)
        if tracks is not None:
            self.motion.follow(tracks, position)
            self.entered = set(range(frames))
        self.motion.to(self.device)
        self.optimizer = self._make_optimizer()
        self.progress = Progress(stage=1)

    def finished(self) -> bool:
        """Whether both stages are over."""
        return self.progress.stage == 1 and self.progress.iteration >= self.config.gaussians.dynamic_iterations

    def step(self) -> None:
        """One iteration of whichever stage is on."""
        if self.progress.stage == 0:
            if self.progress.iteration >= self.config.gaussians.static_iterations:
                self.start_motion()
            else:
                self._iterate(torch.zeros(1, dtype=torch.long), views_per_frame=4)
                return
        options, iteration = self.config.gaussians, self.progress.iteration
        assert self.motion is not None
        for frame in range(self.schedule.entered(iteration)):
            if frame not in self.entered:
                self.motion.enter(frame, frame - 1)
                self.entered.add(frame)
        self.motion.anneal(iteration / max(1, options.dynamic_iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * self.schedule.rate(iteration)
        frames = self.schedule.pick_frames(iteration, options.frames_per_step, self.generator)
        self._iterate(frames, options.views_per_step)

    def _iterate(self, frames: Tensor, views_per_frame: int) -> None:
        weights = self._cell_weights()
        views = pick_views(self.usable, frames, views_per_frame, self.generator, torch.ones_like(weights))
        frame_of = repeat(frames, "k -> (k n)", n=views.shape[1])
        view_of = rearrange(views, "k n -> (k n)")
        loss, error = self.loss(frame_of, view_of, frames, weights[view_of, frame_of])
        read = torch.cat([loss.detach()[None], error]).cpu()  # the only wait for the device in an iteration
        if not torch.isfinite(read[0]):
            raise UserError(
                f"the fit diverged at iteration {self.progress.iteration}: lower --gaussians.learning-rate "
                f"({self.config.gaussians.learning_rate:g})"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.densifier.observe(self.gaussians.position.grad)
        self.optimizer.step()
        self.cell_error[view_of, frame_of] = read[1:]
        self.progress.update(float(read[1:].mean()))
        self.progress.iteration += 1
        if self.progress.iteration % PRUNE_EVERY == 0:
            self._prune()
        if self.progress.stage == 1 and self.progress.iteration in self.densifier.due_at:
            self._densify()

    def _cell_weights(self) -> Tensor:
        """[V, F]: 1, or less for cells that agree less with the fit than the median cell does."""
        if not self.config.imperfect.view_weighting or self.progress.stage == 0:
            return torch.ones_like(self.cell_error)
        seen = self.cell_error > 0
        if seen.float().mean() < 0.5:
            return torch.ones_like(self.cell_error)
        median = self.cell_error[seen].median()
        return torch.where(seen, (median / self.cell_error.clamp(min=1e-8)).clamp(max=1.0), torch.ones(()))

    def loss(self, frame_of: Tensor, view_of: Tensor, frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the cells (view_of[b], frame_of[b]), frame after frame, and their squared errors [B]."""
        cells = self.targets.cell(view_of, frame_of)
        means, covariance, linear = self.pose(frames, view_of)
        g, views = self.gaussians, self.compensation.views(self.targets.views, cells)
        picture = render(means, covariance, g.opacity()[None], g.colour[None], views, linear=linear)
        data, per_cell = self._data(picture, cells)
        total = (weights.to(self.device) * data).sum() / weights.sum()
        if self.motion is not None:
            total = total + REGULARISER_WEIGHT * self.motion.regulariser(g.position, frames)
        if self.compensation.active:
            total = total + self.compensation.regulariser()
        return total, per_cell.detach()

    def _data(self, picture: Picture, cells: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells' pictures are off by, as the loss counts it, and in mean square, [B] each."""
        images, imperfect = self.targets.images.flatten(0, 1), self.config.imperfect
        plain = not (imperfect.robust or imperfect.exposure)
        if plain and picture.drawn is not None and is_fused(images):
            far, square, mask = cell_errors(picture.drawn, images, cells).unbind(dim=1)
            return 0.5 * far + 2 * square + 0.5 * mask, square
        target = images.index_select(0, cells.to(self.device))
        colour = self.compensation.expose(picture.rgb, picture.alpha, cells) - target[:, :3]
        mask = picture.alpha - target[:, 3:]
        square = rearrange(colour, "b c h w -> b (c h w)").square().mean(dim=1)
        if imperfect.robust:
            data = 0.6 * (ROBUST_SCALE * ((1 + (colour / ROBUST_SCALE).square()).sqrt() - 1)).mean(dim=(1, 2, 3))
            return data + 0.3 * mask.abs().mean(dim=(1, 2, 3)), square
        return 0.5 * colour.abs().mean(dim=(1, 2, 3)) + 2 * square + 0.5 * mask.square().mean(dim=(1, 2, 3)), square

    def pose(self, frames: Tensor, view_of: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Means [K or B, N, 3], covariances [1, N, ...] and what the motion does to them [K, N, 3, 3] or None.

        Args:
            frames: [K]. view_of: [B], the views of the first frame, then those of the second, ...
        """
        g = self.gaussians
        linear, means = self.carried(frames)
        if g.isotropic or self.motion is None or not self.motion.turns:
            linear = None
        bend = self.compensation.displacement(g.position, view_of)
        if g.view_offset is not None:
            told = g.view_offset.index_select(1, view_of.to(self.device)).transpose(0, 1)
            bend = told if bend is None else bend + told
        return (means if bend is None else spread(means, len(view_of)) + bend), g.covariance()[None], linear

    def carried(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What the motion makes of the canonical Gaussians at frames [K], as `Motion.affine`; those that do not move
        stay. Before there is a motion one instant stands for all: [1, 1, 3, 3] and [1, N, 3]."""
        position, moving = self.gaussians.position, self.gaussians.moving
        identity = torch.eye(3, device=self.device)
        if self.motion is None:
            return identity[None, None], position[None]
        linear, means = self.motion.affine(position, frames)
        if moving is None:
            return linear, means
        return torch.where(moving[:, None, None], linear, identity), torch.where(moving[:, None], means, position)

    @torch.no_grad()
    def _prune(self) -> None:
        """Drop faint Gaussians and, in the static stage, those that left the cube which the cameras see."""
        g = self.gaussians
        kept = g.opacity() >= self.config.gaussians.prune_opacity
        kept &= g.position.abs().amax(dim=1) < OUT_OF_SIGHT * self.targets.reach
        if kept.all():
            return
        if not kept.any():
            raise UserError("every Gaussian has faded away: the views do not agree on any object; check the cameras")
        self.keep(kept.nonzero().flatten())

    def _densify(self) -> None:
        """Split the Gaussians that the densifier names."""
        before, chosen = len(self.gaussians), self.densifier.split()
        self.keep(torch.cat([torch.arange(before, device=self.device), chosen]))
        separate(self.gaussians, chosen, before + torch.arange(len(chosen), device=self.device), self.generator)

    @torch.no_grad()
    def keep(self, parents: Tensor) -> None:
        """The Gaussians become `old[parents]`, with their optimiser state."""
        self.densifier.select(parents)
        self.gaussians.select(parents)
        if self.motion is not None:
            self.motion.select(parents)
        for group in self.optimizer.param_groups:
            if not group.get("per_gaussian"):
                continue
            for parameter in group["params"]:
                parameter.data = parameter.data[parents].clone()
                parameter.grad = None
                for name, value in self.optimizer.state.get(parameter, {}).items():
                    if name != "step":
                        self.optimizer.state[parameter][name] = value[parents].clone()

    def save(self, path: Path) -> None:
        """Write everything needed to go on."""
        state = {
            "gaussians": self.gaussians.state_dict(),
            "motion": None if self.motion is None else self.motion.state_dict(),
            "compensation": self.compensation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": list(dataclasses.astuple(self.progress)),
            "entered": sorted(self.entered),
            "cell_error": self.cell_error,
            "densifier": self.densifier.gradient,
            "generator": self.generator.get_state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Go on from a saved state of the same grid and options."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        restore_module(self.gaussians, state["gaussians"])
        if state["motion"] is not None:
            self.start_motion()
            assert self.motion is not None
            restore_module(self.motion, state["motion"])
        restore_module(self.compensation, state["compensation"])
        self.optimizer = self._make_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(*state["progress"])
        self.entered, self.cell_error = set(state["entered"]), state["cell_error"].cpu()
        self.densifier.gradient = state["densifier"]
        self.generator.set_state(state["generator"].cpu())


def restore_module(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Strict in names; the number of Gaussians may differ from the start's."""
    for name, value in state.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        current = getattr(owner, leaf)
        if isinstance(current, torch.nn.Parameter):
            current.data = value.clone()
        else:
            setattr(owner, leaf, value.clone())
