"""The ablations of 4D-fy and Dream-in-4D at toy scale: exact denoisers of a known scene stand for the guidances.

    python benchmarks/distill_ablations.py --seeds 0 1 2 --results runs/distill_ablations.json

What each guidance knows is made to resemble the published ones: the one for views knows from where, but not when, and
half the detail; the one for pictures knows neither, but all the detail; the one for videos knows both, and a third of
the detail. Rows of a group differ in one thing; the table gives means and standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.distill import DistillConfig
from viewtime.files import atomic_path
from viewtime.recon.distill.fields.scene import Scene
from viewtime.recon.distill.fields.volume import VolumeScene
from viewtime.recon.distill.known_scene import KnownGaussians
from viewtime.recon.distill.measures import held_out_psnr, janus, motion_error
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge
from viewtime.recon.distill.running.show import scene_grid

SIZE = "24"
SMALL = f"""--render.samples 64 --render.occupancy 16 --guidances.views.size [{SIZE},{SIZE}]
    --guidances.image.size [{SIZE},{SIZE}] --guidances.video.size [{SIZE},{SIZE}]"""
FY = f"""--config 4d-fy-debug {SMALL} --stages.shape.steps 80 --stages.appearance.steps 40 --stages.motion.steps 200
    --stages.shape.shots.views.sizes [[{SIZE},{SIZE},1]] --stages.appearance.shots.views.sizes [[{SIZE},{SIZE},1]]
    --stages.appearance.shots.image.sizes [[{SIZE},{SIZE},1]] --stages.motion.shots.views.sizes [[{SIZE},{SIZE},1]]
    --stages.motion.shots.image.sizes [[{SIZE},{SIZE},1]] --stages.motion.shots.video.sizes [[{SIZE},{SIZE},1]]
    --guidances.views.time any --guidances.views.blur 2 --guidances.image.time any --guidances.image.camera any
    --guidances.video.blur 3"""
DREAM = f"""--config dream-in-4d-debug {SMALL} --stages.shape.steps 100 --stages.motion.steps 120
    --stages.shape.shots.both.sizes [[{SIZE},{SIZE},1]] --stages.motion.shots.video.sizes [[{SIZE},{SIZE},1]]"""
SOFT = "--guidances.views.blur 3"
CHANCE = "--stages.motion.shots.{}.probability {}"
NO_VIEWS, NO_IMAGE = CHANCE.format("views", 0), CHANCE.format("image", 0)
VIDEO_ALONE = f"{FY} {NO_VIEWS} {NO_IMAGE} {CHANCE.format('video', 1)}"
GROUPS: dict[str, dict[str, str]] = {
    "4D-fy, Table 2": {
        "hybrid": FY,
        "last stage without 3D": f"{FY} {NO_VIEWS} {CHANCE.format('image', 0.5)} {CHANCE.format('video', 0.5)}",
        "without pictures": f"{FY} --stages.appearance.steps 0 {NO_IMAGE} {CHANCE.format('views', 0.5)}"
        f" {CHANCE.format('video', 0.5)}",
        "last stage video alone": VIDEO_ALONE,
        "video alone throughout": f"{VIDEO_ALONE} --stages.shape.steps 0 --stages.appearance.steps 0"
        " --stages.motion.rates.static 0.01 --stages.motion.rates.networks 0.003",
    },
    "Dream-in-4D, total variation": {
        "on": f"{DREAM} --stages.motion.variation 0.3",
        "off": f"{DREAM} --stages.motion.variation 0",
    },
    "Dream-in-4D, deformation": {"hash grid": DREAM, "MLP of sines": f"{DREAM} --scene.motion_input waves"},
    "Dream-in-4D, static stage": {
        "2D and 3D": f"{DREAM} {SOFT} --stages.motion.steps 0",
        "3D alone": f"{DREAM} {SOFT} --stages.motion.steps 0 --stages.shape.shots.both.guidances [views]",
    },
    "Dream-in-4D, static field in the motion stage": {
        "frozen": DREAM,
        "learns": f"{DREAM} --stages.motion.rates.static 0.01 --stages.motion.rates.networks 0.003",
    },
}
MEASURES = {
    "psnr": "PSNR, held-out views (dB)",
    "janus": "many-faced (0 right, 1 wrong)",
    "motion": "motion (share of the truth's)",
    "endpoint": "endpoint error of moving points (% of size)",
    "variation": "displacement's total variation",
    "still": "the first stage's pictures kept (dB)",
}


def run(options: str, seed: int) -> dict[str, float]:
    """One run and its measures."""
    config = DistillConfig.from_argv(["a red knight walks", *options.split(), "--seed", str(seed)], "ablation")
    fit = DistillFit(config, lambda name: open_judge(name, config, torch.device("cpu")))
    known, before = KnownGaussians.of(), None
    started = time.process_time()
    while not fit.finished():
        fit.step()
        if fit.stage.moving and fit.iteration == 1:
            before = still_pictures(fit.scene)
    found = {"psnr": held_out_psnr(fit.scene, known), "janus": janus(fit.scene, known)}
    found["cpu_seconds"] = time.process_time() - started
    if not fit.scene.moving:
        return found
    found["motion"] = picture_change(fit.scene) / picture_change(known)
    if isinstance(fit.scene, VolumeScene) and fit.scene.field.displacement is not None:
        found["endpoint"] = 100 * motion_error(fit.scene, known).moving
        found["variation"] = displacement_roughness(fit.scene)
    if before is not None:
        error = (still_pictures(fit.scene) - before).square().mean()
        found["still"] = float(-10 * error.clamp_min(1e-10).log10())
    return found


def still_pictures(scene: Scene) -> torch.Tensor:
    """The scene as it stands when nothing moves it, from four sides."""
    moving, scene.moving = scene.moving, False
    try:
        cameras = regular_orbit(4, 1, elevation=15.0, distance=2.7, fov_y=30.0)
        return scene_grid(scene, cameras, torch.zeros(1, dtype=torch.float64), (32, 32)).rgb()
    finally:
        scene.moving = moving


def picture_change(scene: Scene | KnownGaussians, frames: int = 8) -> float:
    """Mean absolute change between neighbouring frames, on white, from four sides."""
    cameras = regular_orbit(4, frames, elevation=15.0, distance=2.7, fov_y=30.0)
    times = torch.arange(frames, dtype=torch.float64) / frames
    if isinstance(scene, Scene):
        pictures = scene_grid(scene, cameras, times, (32, 32)).rgb()
    else:
        cells = scene(cameras, times, (32, 32))
        pictures = cells[:, :, :3] + 1 - cells[:, :, 3:]
    return float(pictures.diff(dim=1).abs().mean())


@torch.no_grad()
def displacement_roughness(scene: VolumeScene) -> float:
    """Mean squared difference of displacements (edges of the cube) at places 1/32 apart, where the object may be."""
    displacement = scene.field.displacement
    assert displacement is not None
    generator = torch.Generator().manual_seed(0)
    points = 0.25 + 0.5 * torch.rand(4000, 3, generator=generator)
    times = torch.rand(4000, 1, generator=generator)
    step = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=1) / 32
    first, second = (displacement(torch.cat([place, times], dim=1)) for place in (points, points + step))
    return float((first - second).square().sum(dim=1).mean())


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Markdown: mean ± standard deviation over seeds."""
    lines = []
    for group, rows in results.items():
        names = [name for name in MEASURES if any(name in run for runs in rows.values() for run in runs)]
        lines += ["", f"**{group}**", "", "| | " + " | ".join(MEASURES[name] for name in names) + " | seeds |"]
        lines.append("|---" * (len(names) + 2) + "|")
        for row, runs in rows.items():
            cells = []
            for name in names:
                values = torch.tensor([run[name] for run in runs if name in run])
                cells.append(
                    f"{values.mean():.3g} ± {values.std(correction=len(values) > 1):.2g}" if len(values) else ""
                )
            lines.append(f"| {row} | " + " | ".join(cells) + f" | {len(runs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), help="those whose names contain one of these")
    parser.add_argument("--results", type=Path, default=Path("runs/distill_ablations.json"), help="kept; a run goes on")
    arguments = parser.parse_args()
    kept = arguments.results
    done: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for seed in arguments.seeds:
        for group, rows in GROUPS.items():
            if not any(name in group for name in arguments.groups):
                continue
            for options in rows.values():
                key = f"{seed} {options}"
                if key not in done:
                    done[key] = run(options, seed)
                    with atomic_path(kept) as path:
                        path.write_text(json.dumps(done, indent=1))
    shown = {
        group: {row: [done[k] for s in arguments.seeds if (k := f"{s} {o}") in done] for row, o in rows.items()}
        for group, rows in GROUPS.items()
    }
    print(table({group: rows for group, rows in shown.items() if any(rows.values())}))


if __name__ == "__main__":
    main()
