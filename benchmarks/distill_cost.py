"""What a step of score distillation costs on this machine, part by part, at the toy scale of the debug presets.

    python benchmarks/distill_cost.py [--steps 20] [--points 20000]

Prints CPU seconds per step of every shot of both debug presets (rendering, guidance and loss, backward, optimiser); the
4-D hash grid at full size, forward and backward, as a ratio to plain torch; and the bytes that a sample leaves for the
backward pass at full width, which the memory estimate takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_scene import BackgroundOptions, FieldOptions, RenderOptions
from viewtime.recon.distill.fields.make import make_scene
from viewtime.recon.distill.fields.motion import motion_levels
from viewtime.recon.distill.fields.scene import Shot, paint, shown
from viewtime.recon.distill.guidance.base import SeededDraws
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge
from viewtime.recon.distill.running.schedule import camera_range, draw_shot
from viewtime.recon.nerf.encoding import encode
from viewtime.recon.nerf.levels import encode_reference


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What an action gives, and its CPU seconds in this process."""
    started = time.process_time()
    result = action()
    return result, time.process_time() - started


def step_parts(fit: DistillFit, name: str) -> dict[str, float]:
    """CPU seconds of the parts of one step that shows a shot."""
    options, stage = fit.stage.shots[name], fit.stage
    bounds = camera_range(fit.config.cameras[options.cameras])
    shot = draw_shot(options, bounds, stage.moving, 0, fit.draws)
    (pixels, send), rendering = timed(lambda: paint(fit.scene, fit.scene.plan(shot, fit.draws)))
    seen = shown(pixels, shot)

    def judge() -> torch.Tensor:
        losses = [fit.judges[guidance].losses(seen.rendered, 0, fit.draws)[1] for guidance in options.guidances]
        return torch.stack(losses).sum()

    total, judging = timed(judge)
    fit.optimizer.zero_grad(set_to_none=True)
    _, backward = timed(lambda: (total.backward(), send()))
    _, optimiser = timed(fit.optimizer.step)
    return {"render": rendering, "guidance and loss": judging, "backward": backward, "optimiser": optimiser}


def print_steps(preset: str, steps: int) -> None:
    """A table of one debug preset."""
    changes = [word for name in ("shape", "appearance", "motion") for word in (f"--stages.{name}.steps", "3")]
    changes = changes if preset.startswith("4d") else changes[:2] + changes[4:]
    config = DistillConfig.from_argv(["a red knight", "--config", preset, *changes], "cost")
    fit = DistillFit(config, lambda name: open_judge(name, config, torch.device("cpu")))
    seen = set()
    while not fit.finished():
        fit.step()
        if fit.stage_name in seen:
            continue
        seen.add(fit.stage_name)
        for name in fit.stage.shots:
            rows = [step_parts(fit, name) for _ in range(steps)]
            means = {part: sum(row[part] for row in rows) / steps for part in rows[0]}
            cells = " | ".join(f"{value:.3f}" for value in [*means.values(), sum(means.values())])
            print(f"| {preset}, {fit.stage_name}: {name} | {cells} |", flush=True)


def print_grid(points: int) -> None:
    """The 4-D grid of 4D-fy, 16 levels of up to 2¹⁹ entries, on this processor against plain torch."""
    levels = motion_levels(FieldOptions())
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(levels.entries, 2, generator=generator, requires_grad=True)
    where = torch.rand(points, 4, generator=generator)
    seconds = {}
    for name, function in (("compiled", encode), ("plain torch", encode_reference)):
        function(where[:100], table, levels)
        out, forward = timed(lambda function=function: function(where, table, levels))
        _, backward = timed(lambda out=out: torch.autograd.grad(out.sum(), table))
        seconds[name] = (forward, backward)
        print(f"4-D hash grid, {points} points, {name}: forward {forward:.3f} s, backward {backward:.3f} s")
    for place, part in enumerate(("forward", "backward")):
        print(
            f"{part}: plain torch takes {seconds['plain torch'][place] / seconds['compiled'][place]:.1f} times as long"
        )


def kept_bytes(motion: str) -> float:
    """Bytes that a sample at full width leaves for the backward pass."""
    first = {"grid": {}, "warp": {"motion_levels": 12, "motion_coarsest": 4}}[motion]
    options = FieldOptions(motion=motion, log2_table=12, **first)  # type: ignore[arg-type]
    scene: Any = make_scene(options, BackgroundOptions(), RenderOptions(samples=128, occupancy=8), 0)
    scene.moving = True
    scene.look_around(0, SeededDraws(0))
    shot = Shot((regular_orbit(1, 2, distance=2.7, fov_y=30.0),), torch.tensor([0.0, 0.5]).double(), 32, 32)
    plan, kept = scene.plan(shot, SeededDraws(0)), {}
    own = {parameter.untyped_storage().data_ptr() for parameter in scene.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        drawn = scene.draw(plan, 0)
    total = sum(size for place, size in kept.items() if place not in own)
    del drawn
    return total / scene.samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--points", type=int, default=20000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| preset, stage: shot | render | guidance and loss | backward | optimiser | CPU s per step |")
    print("|---|---|---|---|---|---|")
    for preset in ("4d-fy-debug", "dream-in-4d-debug"):
        print_steps(preset, arguments.steps)
    print_grid(arguments.points)
    for motion in ("grid", "warp"):
        print(f"{motion}: a sample leaves {kept_bytes(motion):.0f} bytes for the backward pass")


if __name__ == "__main__":
    main()
