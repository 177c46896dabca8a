"""The fit of a dynamic NeRF: a static stage on the first frame at rising resolution, then views × frames at random."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.fitting.loop import Progress
from viewtime.recon.fitting.schedule import Schedule, pick_views
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.gaussians.compensation import Compensation

from .field import DynamicField, Instant
from .losses import Batch, Losses
from .marching import longest_path
from .occupancy import Occupancy
from .rays import Scale, cast, make_scales
from .rendering import render_rays

PROBES = 24  # rays along each side of a picture
CANONICAL_RATE = 0.5  # of the static stage's learning rate, for the canonical field in the dynamic stage


class NerfFit:
    """All state of one fit; `step` does one iteration, `save` and `restore` make it resumable.

    Pictures, field and voxels live on the device of the targets; what is drawn at random is drawn on the CPU, so that a
    seed means the same everywhere.

    Attributes:
        step_length: between samples of a ray, world units: the option's pixels, or more where so many samples would not
            reach through the object; it shrinks as the occupied voxels become a shell.
    """

    def __init__(self, targets: Targets, config: ReconstructConfig, view_names: list[int] | None = None) -> None:
        self.targets, self.config, self.options = targets, config, config.nerf
        if config.imperfect.view_deformation or config.imperfect.view_weighting:
            raise UserError(
                "--imperfect.view-deformation and view-weighting are for --method gaussians; "
                "a NeRF takes offset, exposure and robust"
            )
        V, F, _, _ = targets.shape
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.device = targets.images.device
        self.usable = targets.usable.cpu()
        occupancy = Occupancy.of(targets.to("cpu"), self.options.occupancy_resolution, self.options.hull_margin)
        self.field = DynamicField(self.options, F, occupancy.block.low, occupancy.block.side).to(self.device)
        self.occupancy = occupancy.to(self.device)
        self.compensation = Compensation(config.imperfect, V, F, torch.zeros(1, 3)).to(self.device)
        self.losses = Losses(self.options, config.imperfect.robust, targets, view_names)
        self.scales = make_scales(targets, self.options.start_size)
        self.schedule = Schedule(F, self.options.dynamic_iterations, self.options.curriculum)
        self.progress = Progress()
        self.entered = {0}
        self.pixel = float(targets.views.world_to_camera[:, :3, 3].norm(dim=1).mean() / targets.views.focal.mean())
        self.probes = self._probes()
        self.step_length = 0.0
        self.space_samples()
        self.samples = 0.0
        self.optimizer = self._make_optimizer()

    def _probes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rays through every cell by which `space_samples` measures the object: origins, directions, frames."""
        V, F, H, W = self.targets.shape
        y, x = torch.meshgrid(
            (torch.arange(PROBES) + 0.5) * H / PROBES, (torch.arange(PROBES) + 0.5) * W / PROBES, indexing="ij"
        )
        place = repeat(torch.stack([x, y], dim=-1), "h w c -> (n h w) c", n=V * F)
        cell = repeat(torch.arange(V * F), "n -> (n p)", p=PROBES**2)
        rays = cast(self.targets.views, *(value.to(self.device) for value in (cell, place, cell % F)))
        return rays.origins, rays.directions, rays.slot

    def space_samples(self) -> None:
        """Set the step length by what the rays have to pass through."""
        o, block = self.options, self.occupancy.block
        needed = longest_path(block, self.probes) + block.side / block.resolution
        self.step_length = max(o.step * self.pixel, needed / o.samples)

    def _make_optimizer(self) -> torch.optim.Adam:
        rate, field = self.options.learning_rate, self.field
        share = CANONICAL_RATE if field.moving else 1.0
        groups: list[dict] = [{"params": list(field.canonical.parameters()), "lr": share * rate, "name": "canonical"}]
        if field.moving:
            groups += field.deformation.groups(rate)
            if field.remainder is not None:
                groups += [{"params": list(field.remainder.parameters()), "lr": rate, "name": "remainder"}]
        groups += self.compensation.groups(1.0)
        for group in groups:
            group["base"] = group["lr"]
        return torch.optim.Adam(groups, eps=1e-15, betas=(0.9, 0.99), fused=True)

    def start_motion(self) -> None:
        """End of the static stage: deformation and remainder are let go."""
        self.field.moving = True
        self.optimizer = self._make_optimizer()
        self.progress = Progress(stage=1)

    def finished(self) -> bool:
        """Whether both stages are over."""
        return self.progress.stage == 1 and self.progress.iteration >= self.options.dynamic_iterations

    def step(self) -> None:
        """One iteration of whichever stage is on."""
        o = self.options
        if self.progress.stage == 0 and self.progress.iteration >= o.static_iterations:
            self.start_motion()
        iteration = self.progress.iteration
        if self.progress.stage == 0:
            sizes = len(self.scales) - 1
            scale = self.scales[min(sizes - 1, iteration * sizes // max(1, o.static_iterations))]
            self._iterate(scale, torch.zeros(1, dtype=torch.long), o.views_per_step * o.frames_per_step)
            return
        for frame in range(self.schedule.entered(iteration)):
            if frame not in self.entered:
                if self.schedule.curriculum:
                    self.field.deformation.enter(frame, frame - 1)
                self.entered.add(frame)
        self.field.deformation.anneal(iteration / max(1, o.dynamic_iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * self.schedule.rate(iteration)
        frames = self.schedule.pick_frames(iteration, o.frames_per_step, self.generator)
        self._iterate(self.scales[-1], frames, o.views_per_step)

    def _iterate(self, scale: Scale, frames: Tensor, views_per_frame: int) -> None:
        views = pick_views(self.usable, frames, views_per_frame, self.generator, self.usable.float())
        slot = repeat(torch.arange(len(frames)), "k -> (k n)", n=views.shape[1])
        view = rearrange(views, "k n -> (k n)")
        batch = self._draw(scale, view, frames, slot)
        loss, square = self._loss(batch, frames)
        value, error = torch.stack([loss.detach(), square]).tolist()
        if not math.isfinite(value):
            raise UserError(
                f"the fit diverged at iteration {self.progress.iteration}: lower --nerf.learning-rate "
                f"({self.options.learning_rate:g})"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.progress.update(error * self.share)
        self.progress.iteration += 1
        if self.progress.iteration % self.options.occupancy_every == 0:
            self.look_around()

    @property
    def share(self) -> float:
        """Share of the pictures that the object and its rim fill: makes errors of rays errors of pictures."""
        full = self.scales[-1]
        return len(full.active) / full.images[:, :, 0].numel()

    def _draw(self, scale: Scale, view: Tensor, frames: Tensor, slot: Tensor) -> Batch:
        """Random rays of each cell, then the patches."""
        o, stored = self.options, scale.images.shape[1]
        cells = view * stored + (frames[slot] if stored > 1 else 0)
        pixels = scale.draw(cells, self._rays_per_cell(len(cells)), self.generator)
        which = repeat(torch.arange(len(cells)), "b -> b n", n=pixels.shape[1]).flatten()
        pixels = pixels.flatten()
        count, side = o.patches_per_step, o.patch
        if count:
            chosen = torch.randint(0, len(cells), (count,), generator=self.generator)
            squares = scale.patches(cells[chosen], side, self.generator)
            which = torch.cat([which, repeat(chosen, "p -> (p n)", n=side * side)])
            pixels = torch.cat([pixels, squares.flatten()])
        full = self.targets.cell(view, frames[slot])
        return Batch(
            full, which, scale.place(pixels), scale.values(cells[which], pixels), slot, count, side, scale.height_ratio
        ).to(self.device)

    def _rays_per_cell(self, cells: int) -> int:
        """The same number of rays per step, however few cells there are."""
        o = self.options
        return -(-o.rays_per_cell * o.views_per_step * o.frames_per_step // cells)

    def _loss(self, batch: Batch, frames: Tensor) -> tuple[Tensor, Tensor]:
        views = self.compensation.views(self.targets.views, batch.cells)
        rays = cast(views, batch.which, batch.place, batch.slot[batch.which])
        jitter = torch.rand(len(rays), generator=self.generator).to(self.device)
        instant = self.field.at(frames.float())
        o = self.options
        at = frames.to(self.device)
        picture = render_rays(instant, self.occupancy.block, at, rays, jitter, self.step_length, o.samples)
        self.samples = picture.samples / len(rays)
        rgb = picture.rgb
        if self.config.imperfect.exposure:
            rgb = rgb * self.compensation.log_gain[batch.cells[batch.which]].exp()
        total, square = self.losses(dataclasses.replace(picture, rgb=rgb), batch, views)
        if self.field.moving:
            total = total + self.field.deformation.regulariser(frames.tolist())
            if instant.table is not None:
                total = total + o.remainder_decay * instant.table.square().mean()
        if self.compensation.active:
            total = total + self.compensation.regulariser()
        return total, square

    @torch.no_grad()
    def look_around(self) -> None:
        """Bring the occupied voxels up to date with the density: of the first frame, then of all."""
        frames = range(self.targets.shape[1]) if self.field.moving else range(1)

        def density(points: Tensor, frame: Tensor) -> Tensor:
            instant: Instant = self.field.at(frame[None].float())
            slot = torch.zeros(len(points), dtype=torch.long, device=points.device)
            return instant(points, slot, with_colour=False)[0]

        self.occupancy.update(density, frames, self.generator)
        self.space_samples()

    def save(self, path: Path) -> None:
        """Write everything needed to go on."""
        state = {
            "field": self.field.state_dict(),
            "compensation": self.compensation.state_dict(),
            "occupancy": self.occupancy.state(),
            "optimizer": self.optimizer.state_dict(),
            "progress": list(dataclasses.astuple(self.progress)),
            "entered": sorted(self.entered),
            "generator": self.generator.get_state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Go on from a saved state of the same grid and options."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.field.load_state_dict(state["field"])
        progress = Progress(*state["progress"])
        if progress.stage:
            self.start_motion()
        self.compensation.load_state_dict(state["compensation"])
        self.occupancy.restore(state["occupancy"])
        self.space_samples()
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = progress
        self.entered = set(state["entered"])
        self.generator.set_state(state["generator"].cpu())
