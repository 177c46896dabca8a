"""The fit of a scene to its guidances: one step, saved states, and what was measured in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_stages import ShotOptions, StageOptions
from viewtime.errors import UserError, first_line
from viewtime.files import atomic_path
from viewtime.log import log
from viewtime.recon.fitting.resume import DAMAGE

from ..fields.background import Background
from ..fields.make import make_scene
from ..fields.scene import Shown, paint, shown
from ..guidance.base import SeededDraws
from ..losses import regularisers
from ..scalars import value_at
from .reference import Reference
from .schedule import Judge, camera_range, check_stage, choose_shots, draw_shot, scalar, timestep_range, used_guidances
from .watch import Watch, all_finite

MOST_SKIPPED = 20  # steps in a row with values that are not finite
OpenJudge = Callable[[str], Judge]


class DistillFit:
    """All state of a run; `step` does one iteration, `save` and `restore` make it resumable.

    Args:
        open_judge: makes the judge of a guidance's name; called once per name, when a stage first needs it.

    Raises:
        UserError: the schedule names what there is not.
    """

    def __init__(
        self,
        config: DistillConfig,
        open_judge: OpenJudge,
        device: torch.device | str = "cpu",
        reference: Reference | None = None,
    ) -> None:
        self.config, self.open_judge, self.reference = config, open_judge, reference
        self.device = torch.device(device)
        names = set(config.guidances)
        for name, stage in config.stages.items():
            check_stage(name, stage, set(config.cameras), names)
        if reference is None and any(
            "reference" in s.guidances for st in config.stages.values() for s in st.shots.values()
        ):
            raise UserError("this schedule follows a picture: give --image FILE.png (RGBA)")
        if reference is not None and reference.options.ray_noise and config.scene.kind == "gaussians":
            raise UserError("--scene.kind gaussians has no rays to move: add --reference.ray_noise 0")
        if not config.stages:
            raise UserError(f"{config.config} has no stages")
        self.scene = make_scene(config.scene, config.background, config.render, config.seed).to(self.device)
        self.draws = SeededDraws(config.seed)
        self.judges: dict[str, Judge] = {}
        self.stage_index, self.iteration, self.skipped = 0, 0, 0
        self.records: list[dict] = []
        self.entered = False
        self.watch = Watch(self.stage_name, "")

    @property
    def stage_name(self) -> str:
        """Of the stage that is on."""
        return list(self.config.stages)[self.stage_index]

    @property
    def stage(self) -> StageOptions:
        """The stage that is on."""
        return self.config.stages[self.stage_name]

    @property
    def done(self) -> int:
        """Steps done in all stages."""
        return sum(stage.steps for stage in list(self.config.stages.values())[: self.stage_index]) + self.iteration

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.config.stages.values())

    def finished(self) -> bool:
        """Whether the last stage is over."""
        later = list(self.config.stages.values())[self.stage_index + 1 :]
        return self.iteration >= self.stage.steps and not any(stage.steps for stage in later)

    def _enter(self) -> None:
        """Begin a stage: its judges, its optimiser, what it freezes, perhaps a new background."""
        stage, self.entered = self.stage, True
        self.scene.moving = stage.moving
        if stage.new_background:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed + 1)
                self.scene.background = Background(self.config.background).to(self.device)
        wanted = set(used_guidances([stage]))
        self.judges = {name: judge for name, judge in self.judges.items() if name in wanted}
        for name in sorted(wanted - set(self.judges)):
            self.judges[name] = self.open_judge(name)
        for name in sorted(wanted):
            own = stage.ranges.get(name, self.config.guidances[name].range)
            self.judges[name] = self.judges[name].during(timestep_range(own))
        remedy = "raise the weight of the video's guidance (" + ", ".join(
            f"--guidances.{name}.weight.{loss}"
            for shot in stage.shots.values() if shot.frames > 1 for name in shot.guidances
            for loss in self.config.guidances[name].weight
        ) + ")"  # fmt: skip
        self.watch = Watch(self.stage_name, f"{remedy} or give the stage more steps")
        self.optimizer = self._make_optimizer(wanted)

    def _groups(self, wanted: set[str]) -> dict[str, list[nn.Parameter]]:
        copies = [self.judges[name].teacher.copy for name in sorted(wanted)]
        trained = [parameter for copy in copies if copy is not None for parameter in copy.parameters()]
        return self.scene.groups() | ({"copy": trained} if trained else {})

    def _make_optimizer(self, wanted: set[str]) -> torch.optim.Optimizer:
        stage, groups = self.stage, self._groups(wanted)
        unknown = set(stage.rates) - set(groups) - {"copy"}
        if unknown:
            raise UserError(
                f"stage {self.stage_name}: rates of {', '.join(sorted(unknown))}; this scene has the groups "
                f"{', '.join(groups)}"
            )
        if "copy" in groups and "copy" not in stage.rates:
            raise UserError(
                f"stage {self.stage_name} uses VSD, whose copy must learn: give --stages.{self.stage_name}.rates.copy"
            )
        for name, parameters in groups.items():
            for parameter in parameters:
                parameter.requires_grad_(name in stage.rates)
        sections = [
            {"params": groups[name], "lr": rate, "base": rate, "name": name}
            for name, rate in stage.rates.items() if groups.get(name)
        ]  # fmt: skip
        kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
        return kind(sections, betas=stage.betas, eps=stage.epsilon)

    def step(self) -> None:
        """One iteration; the next stage begins where one is over."""
        while self.iteration >= self.stage.steps:
            self.stage_index, self.iteration, self.entered = self.stage_index + 1, 0, False
        if not self.entered:
            self._enter()
        stage, step = self.stage, self.iteration
        self.scene.advance(step, value_at(scalar(stage.spread, "spread"), step))
        self.scene.look_around(step, self.draws)
        names = choose_shots(stage, self.draws)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        fine = True
        for name in names:
            fine &= self._shoot(name, stage.shots[name], step, losses)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * 0.5 ** sum(step >= at for at in stage.halve_at)
        if fine and all_finite(
            [p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
        ):
            self.optimizer.step()
            self.skipped = 0
        else:
            self._skip(losses)
        self.records.append(
            {"stage": self.stage_name, "step": step, "shots": names, "losses": losses} | self._measures()
        )
        self.iteration += 1

    def _measures(self) -> dict:
        return {"skipped": bool(self.skipped)} | {name: round(value, 6) for name, value in self.watch.means.items()}

    def _skip(self, losses: dict[str, float]) -> None:
        """A step whose losses or gradients are not finite changes nothing."""
        self.skipped += 1
        if self.skipped == 1:
            log.warning("stage %s, step %d skipped: not finite: %s", self.stage_name, self.iteration, losses)
        if self.skipped >= MOST_SKIPPED:
            raise UserError(
                f"stage {self.stage_name}: {self.skipped} steps in a row were not finite; lower its learning rates, or "
                "take --guidances.NAME.dtype float32 (or bfloat16) where a guidance overflows"
            )

    def _shoot(self, name: str, options: ShotOptions, step: int, losses: dict[str, float]) -> bool:
        """Render one shot and send its gradients into the scene; whether its losses were finite."""
        stage = self.stage
        self._freeze(options)
        if "reference" in options.guidances:
            assert self.reference is not None
            place = sum(step >= at for at in options.at_steps)
            shot = self.reference.shot(options.sizes[place][:2], self.draws)
        else:
            bounds = camera_range(self.config.cameras[options.cameras])
            shot = draw_shot(options, bounds, stage.moving, step, self.draws)
        pixels, send = paint(self.scene, self.scene.plan(shot, self.draws))
        seen = shown(pixels, shot)
        total = self._judge(options, seen, step, losses, name)
        if not torch.isfinite(total):
            return False
        if total.requires_grad:
            total.backward()
            send()
        self.watch.look(seen, video=options.frames > 1 and stage.moving)
        return True

    def _freeze(self, options: ShotOptions) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(group["name"] not in options.frozen)

    def _judge(self, options: ShotOptions, seen: Shown, step: int, losses: dict[str, float], name: str) -> Tensor:
        """The weighted sum of all losses of a shot; notes each, unweighted."""
        total = seen.rendered.color.new_zeros(())
        for guidance in options.guidances:
            if guidance == "reference":
                assert self.reference is not None
                found = self.reference.losses(seen.rendered)
                total = total + sum(self.reference.weights()[key] * value for key, value in found.items())
            else:
                found, weighted = self.judges[guidance].losses(seen.rendered, step, self.draws)
                total = total + weighted.to(total.device)
            losses |= {f"{guidance}.{key}": float(value.detach()) for key, value in found.items()}
        opacity, stage = seen.rendered.opacity, self.stage
        extra: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "opaque": (value_at(scalar(stage.opaque, "opaque"), step), lambda: regularisers.opaqueness(opacity)),
        }
        if "reference" not in options.guidances:
            weight = value_at(scalar(stage.sparsity, "sparsity"), step)
            extra["sparsity"] = (weight, lambda: regularisers.sparsity(opacity))
        if options.frames > 1 and stage.moving:
            video = rearrange(seen.displacement, "b v f h w c -> (b v) f h w c")
            weight = value_at(scalar(stage.variation, "variation"), step)
            extra["variation"] = (weight, lambda: regularisers.displacement_variation(video).total)
        for key, (weight, value) in extra.items():
            if weight:
                found = value()
                losses[f"{name}.{key}"] = float(found.detach())
                total = total + weight * found
        return total

    def save(self, path: Path) -> None:
        """Write everything needed to go on."""
        copies = {name: judge.teacher.copy for name, judge in self.judges.items()}
        state = {
            "config": self.config.config,
            "scene": self.scene.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "place": [self.stage_index, self.iteration, self.skipped],
            "copies": {name: copy.state_dict() for name, copy in copies.items() if copy is not None},
            "watch": self.watch.state(),
            "draws": self.draws.state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Go on from a saved state of the same options.

        Raises:
            UserError: the file is damaged.
        """
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            self.stage_index, iteration, skipped = state["place"]
            self._enter()
            self.scene.load_state_dict(state["scene"])
            for name, copy in state["copies"].items():
                kept = self.judges[name].teacher.copy
                assert kept is not None
                kept.load_state_dict(copy)
            self.optimizer.load_state_dict(state["optimizer"])
            self.iteration, self.skipped = iteration, skipped
            self.watch.restore(state["watch"])
            self.draws.restore(state["draws"].cpu())
        except DAMAGE as error:
            reason = first_line(error)
            raise UserError(f"{path} is damaged ({reason}); start anew with --resume false") from error
        self.scene.advance(self.iteration, value_at(scalar(self.stage.spread), self.iteration))
        log.info("going on from step %d of stage %s", iteration, self.stage_name)
