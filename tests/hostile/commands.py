"""The resumable commands at a small size, for `tests.hostile.kills`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / name) for name in ("sample", "data", "recon", "render", "train")
]

from data_samples import save_grids  # noqa: E402
from scenes import training_grid  # noqa: E402
from small_gltf import moving  # noqa: E402
from small_models import ball, mini_weights  # noqa: E402

from tests.train.conftest import write_config  # noqa: E402
from viewtime.video import write_video  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A command: what it reads is made by `prepare` in the working folder, what it writes lies in `run`."""

    prepare: Callable[[Path], Any]
    argv: tuple[str, ...]


def _video(folder: Path) -> None:
    mini_weights(folder)
    write_video(folder / "in.mp4", ball(2), 8)


def _assets(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        moving(folder / name / "asset.glb", shift=1.0 if name == "a" else 2.0)


FIT = (
    "--gaussians.count", "60", "--gaussians.static-iterations", "4", "--gaussians.dynamic-iterations", "6",
    "--orbit-seconds", "0.1", "--mesh.resolution", "16", "--mesh.faces", "100", "--mesh.refine-iterations", "0",
)  # fmt: skip
CASES = {
    "sample": Case(
        _video,
        ("sample", "--video", "in.mp4", "--weights", "tiny-mini.safetensors", "--out", "run", "--views", "2",
         "--stream", "--sampler.steps", "1", "--save", "png"),
    ),
    "encode": Case(
        lambda folder: save_grids(folder / "grids", 4, views=2, frames=2, size=16),
        ("encode", "grids", "--out", "run", "--samples-per-shard", "2", "--workers", "1"),
    ),
    "reconstruct": Case(
        lambda folder: training_grid(views=3, frames=2, size=24).save(folder / "grid", lossless=True),
        ("reconstruct", "grid", "--out", "run", "--save-every", "2", "--device", "cpu", *FIT),
    ),
    "train": Case(
        lambda folder: write_config(folder, checkpoint={"every_steps": 2, "keep_last": 1}, stages=[
            {"name": "only", "lr": 1e-3, "batch_size": 1, "steps": 5}]),
        ("train", "--config", "tiny.yaml", "--output", "run"),
    ),
    "curate": Case(_assets, ("curate", ".", "--licence", "CC0", "--out", "run", "--workers", "1")),
    "render": Case(
        _assets,
        ("render", ".", "--engine", "gl", "--out", "run", "--views", "2", "--frames", "2", "--size", "24",
         "--workers.count", "1", "--framing.min-motion", "0", "--sheets", "1"),
    ),
    "distill": Case(
        lambda _: None,
        ("distill", "a red knight walks", "--config", "dream-in-4d-debug", "--out", "run", "--device", "cpu",
         "--save_every", "2", "--stages.shape.steps", "3", "--stages.motion.steps", "2", "--scene.levels", "3",
         "--scene.motion_levels", "3", "--scene.log2_table", "10", "--scene.width", "8", "--render.samples", "32",
         "--render.occupancy", "8", "--guidances.views.size", "[16, 16]", "--guidances.image.size", "[16, 16]",
         "--guidances.video.size", "[8, 8]", "--stages.shape.shots.both.sizes", "[[16, 16, 1]]",
         "--stages.motion.shots.video.sizes", "[[8, 8, 1]]", "--result.reconstruct", "false", "--result.views", "2",
         "--result.frames", "2", "--result.size", "16"),
    ),
}  # fmt: skip
