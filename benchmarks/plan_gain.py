"""Training as sampling asks (SV4D, sections 3.1 and A.4): what it gives each plan, on a small network of SV4D's kind.

    python benchmarks/plan_gain.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--steps 600] [--seeds 0 1]

The UNet of benchmarks/plan_gain.yaml (view and frame attention, windows of 2 novel views x 5 frames) is trained on
KayKit clips of 21 frames, each time from the same initial weights for equal steps. "before" is what
configs/sv4d-train.yaml had: strides to 3, the reference views always those of the window's first frame, time forward,
both conditions dropped together in 1 %. "after" is what it has: strides to 5, the reference before the window in half
of the batches, half of the clips reversed, both dropped together in 10 %. "after, no ..." leaves one of the four out.
Then clips that were never trained on are sampled by each plan from the input view and the true views of frame 0.
Weights and scores in --output are kept; the same command goes on where it stopped, or prints the table again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_table import score  # noqa: E402
from benchmarks.mini_truth import frame_grid  # noqa: E402
from viewtime.cameras import Cameras  # noqa: E402
from viewtime.configs.load import build, load_preset  # noqa: E402
from viewtime.configs.schema.data import DataConfig  # noqa: E402
from viewtime.configs.schema.family import FamilyConfig  # noqa: E402
from viewtime.configs.schema.sample import PlanOptions, PreprocessOptions, SamplerOptions  # noqa: E402
from viewtime.configs.schema.train import TrainConfig  # noqa: E402
from viewtime.data.live.family import render_family  # noqa: E402
from viewtime.data.live.family_source import FamilySource  # noqa: E402
from viewtime.data.loader import GridLoader  # noqa: E402
from viewtime.data.sources import Mixture  # noqa: E402
from viewtime.files import atomic_path  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.images import contact_sheet, to_uint8  # noqa: E402
from viewtime.log import set_up_logging  # noqa: E402
from viewtime.model.conditioners.conditioner import NOISE_AUGMENTATION, unconditional  # noqa: E402
from viewtime.model.conditioners.vector import azimuth_angle, embed_vector, polar_angle  # noqa: E402
from viewtime.model.denoiser import SCALINGS, Conditioning, NetworkDenoiser  # noqa: E402
from viewtime.model.published.presets import load_model_config  # noqa: E402
from viewtime.model.video_model import load_video_model  # noqa: E402
from viewtime.sample.models.grid_model import ModelTraits, Request, SamplerDefaults  # noqa: E402
from viewtime.sample.models.mini_model import decode_cells, encode_cells  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402
from viewtime.train.loop import Trainer  # noqa: E402

PRESET = ROOT / "benchmarks" / "plan_gain.yaml"
VIEWS, FRAMES = 9, 21  # of a rendered clip
BLOCK = 4  # pixels along an edge
STEPS = 8  # of the sampler
SHOWN_VIEWS = (0, 2, 6)  # rows of a held-out grid: the input and two novel views
PLANS = ("sv4d", "sv4d2", "independent", "interleaved", "anchors-linear")
APART = {"concat+image_tokens+frame_vector": 0.1, "reference_views": 0.1}  # both in 1 %
TOGETHER = {"concat+image_tokens+frame_vector+reference_views": 0.1}
STRIDES, OUTSIDE, REVERSED, DROPPED = "strides", "outside references", "reversed windows", "joint dropout"
INGREDIENTS = (STRIDES, OUTSIDE, REVERSED, DROPPED)
TRAININGS: dict[str, frozenset[str]] = {
    "before": frozenset(),
    "after": frozenset(INGREDIENTS),
    **{f"after, no {name}": frozenset(INGREDIENTS) - {name} for name in INGREDIENTS},
}


@dataclass(frozen=True)
class Components:
    """What stands for the VAE: principal components of blocks of 4 x 4 RGBA pixels, scaled to mean square 1.

    Attributes:
        mean: of a block in [-1, 1], [64]. basis: a component a row, [16, 64]. scale: factor on the coefficients.
    """

    mean: Tensor
    basis: Tensor
    scale: float

    @staticmethod
    def of(folder: Path, channels: int) -> Components:
        """Those of the training clips in a folder, from every seventh frame; the same each time."""
        source = FamilySource(folder, False, VIEWS, FRAMES)
        parts = [torch.from_numpy(np.array(grid[::4, ::7])).float() / 255 for grid in source.grids]
        found = torch.cat([blocks(encode_cells(part)).flatten(0, 1) for part in parts])
        values = rearrange(found, "n c h w -> (n h w) c").double()
        centred = values - values.mean(0)
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(values))
        basis = vectors[:, -channels:].T
        basis = basis * basis.sum(1, keepdim=True).sign()  # an eigenvector's sign is the library's choice
        scale = float((variances[-channels:].mean()).rsqrt())
        return Components(values.mean(0).float(), basis.float(), scale)

    def encode(self, cells: Tensor) -> Tensor:
        """[..., 4, S, S] in [-1, 1] -> [..., 16, S / 4, S / 4]."""
        centred = blocks(cells) - self.mean[:, None, None]
        return einsum(self.basis, centred, "k c, ... c h w -> ... k h w") * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """The cells whose other components are the mean's; see `encode`."""
        found = einsum(self.basis, latents / self.scale, "k c, ... k h w -> ... c h w")
        found = found + self.mean[:, None, None]
        return rearrange(found, "... (c i j) h w -> ... c (h i) (w j)", i=BLOCK, j=BLOCK)


def blocks(cells: Tensor) -> Tensor:
    """[..., 4, S, S] -> [..., 64, S / 4, S / 4], the same values."""
    return rearrange(cells, "... c (h i) (w j) -> ... (c i j) h w", i=BLOCK, j=BLOCK)


def thumbnails(cells: Tensor) -> Tensor:
    """What stands for the image embedding: [..., 4, S, S] in [-1, 1] -> [..., 64]."""
    small = F.adaptive_avg_pool2d(cells.flatten(0, -4), 4).flatten(1)
    return small.unflatten(0, cells.shape[:-3])


class LatentGrids:
    """A loader's pixel grids as latents with thumbnails; position and order are the loader's."""

    def __init__(self, inner: GridLoader, components: Components) -> None:
        self.inner, self.components = inner, components

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.inner:
            cond = {**batch.cond, "clip": thumbnails(batch.x0)}
            yield {"x0": self.components.encode(batch.x0), "cond": cond, "ids": batch.ids}

    def state_dict(self) -> dict[str, Any]:
        """Of the loader."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.inner.load_state_dict(state)


def latent_grids(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> LatentGrids:
    """Inner stream of "video-grids": sub-grids of the training clips in `folder`."""
    rest = dict(options)
    folder = Path(rest.pop("folder"))
    config = build(DataConfig, {**rest, "batch_size": batch_size, "seed": seed}, "data.options")
    source = FamilySource(folder, False, config.views, config.frames, config.max_stride)
    loader = GridLoader(Mixture([source], [1.0]), config, rank, world)
    return LatentGrids(loader, Components.of(folder, load_model_config(str(PRESET)).network.out_channels))


def rendered(assets: Path, folder: Path) -> Path:
    """The KayKit family as clips of 21 frames of 32 pixels."""
    family = build(FamilyConfig, load_preset("families/kaykit"), where="families/kaykit")
    return render_family(replace(family, recombined=0, views=VIEWS, frames=FRAMES, size=32), assets, folder)


def training_config(name: str, seed: int, grids: Path, output: Path, steps: int) -> TrainConfig:
    """configs/sv4d-train.yaml's objective, with those of its four ingredients that `name` has."""
    has = TRAININGS[name]
    data: dict[str, Any] = {
        "preset": str(PRESET), "inner": "benchmarks.plan_gain:latent_grids", "folder": str(grids), "views": 3,
        "frames": 5, "resolution": 32, "workers": 0, "max_stride": 5 if STRIDES in has else 3,
        "augment": {"mirror": 0.0, "reverse": 0.5 if REVERSED in has else 0.0},
    }  # fmt: skip
    if OUTSIDE in has:
        data["outside_reference"] = 0.5
    raw = load_preset("sv4d-train", "train") | {
        "model": {"name": "viewtime.train.video_grids:video_grid_denoiser", "config": {"preset": str(PRESET)}},
        "data": {"factory": "video-grids", "options": data},
        "loss": {"kind": "flow", "logit_mean": 0.6, "weighting": "v", "weight_floor": 0.3, "known_cells": "ignored"},
        "conditioning": {"dropout": TOGETHER if DROPPED in has else APART},
        "optimizer": {"name": "adamw"},
        "schedule": {"warmup_steps": 50, "decay": "linear", "decay_share": 0.4},
        "ema": {"lengths": [0.1], "export": 0.1, "every": 2},
        "stages": [{"name": "windows", "lr": 1.5e-3, "batch_size": 1, "steps": steps}],
        "precision": "fp32",
        "checkpoint": {"every_steps": 0, "every_seconds": 120, "keep_last": 1},
        "tracking": {"log_every": 50},
        "seed": seed,
        "output": str(output),
    }
    return build(TrainConfig, raw, where=name)


class SmallModel:
    """The trained network behind the runner; see `viewtime.sample.models.grid_model.GridModel`."""

    def __init__(self, weights: Path, grids: Path) -> None:
        self.weights = weights
        loaded = load_video_model(weights, dtype=torch.float32, parts=("network",))
        self.config = loaded.config
        network = loaded.network.eval().requires_grad_(False)
        self.denoiser = NetworkDenoiser(network, SCALINGS[self.config.prediction](), self.config.network.out_channels)
        self.traits = ModelTraits(
            self.config.name, self.config.views, self.config.frames, self.config.image_size, channels=4, inside=False,
            plan="sv4d", elevation=12.0, needs_reference=True,
            sampler=SamplerDefaults("euler", STEPS, "spatio-temporal", 1.0, 2.0),
        )  # fmt: skip
        self.components = Components.of(grids, self.config.network.out_channels)
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SmallModel:
        """Stays where it is."""
        del device, dtype
        return self

    def save(self, folder: Path) -> Path:
        """A copy of the file."""
        return Path(shutil.copy2(self.weights, folder))

    def latent_shape(self) -> tuple[int, int, int]:
        """(16, size / 4, size / 4)."""
        side = self.traits.size // BLOCK
        return (self.config.network.out_channels, side, side)

    def clean(self, request: Request) -> None:
        """No cell of the rectangle is known: conditions lie beside it."""
        del request

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning]:
        """As in training (`viewtime.train.video_grids.video_conditions`)."""
        views, frames = torch.tensor(request.views), torch.tensor(request.frames)
        elevation, azimuth = request.cameras.elevation, request.cameras.azimuth
        angles = {
            "polar": polar_angle(self.config, elevation[views][:, frames], elevation[:1, frames]),
            "azimuth": azimuth_angle(azimuth[views][:, frames], azimuth[:1, frames]),
        }
        inputs = encode_cells(request.read([(0, frame) for frame in request.frames]))
        columns = {frame for view, frame in request.direction.conditions if view}
        assert len(columns) == 1, f"reference views of one frame, not of {sorted(columns)}"
        reference = encode_cells(request.read([(view, min(columns)) for view in request.views]))
        level = torch.tensor(NOISE_AUGMENTATION["sv4d"])
        cond = {
            "concat": self.components.encode(inputs)[None, None],
            "image_tokens": thumbnails(inputs)[None, None],
            "reference_views": self.components.encode(reference)[None],
            "vector": embed_vector(self.config, {**angles, "noise_augmentation": level})[None],
        }
        return cond, unconditional(self.config, cond)

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, 16, S / 4, S / 4] -> RGBA in [0, 1]."""
        return decode_cells(self.components.decode(latents))


def truths(grids: Path, limit: int) -> list[FrameGrid]:
    """Held-out clips, spread over all; rows `SHOWN_VIEWS`, the input view and frame 0 known."""
    source = FamilySource(grids, True, VIEWS, FRAMES)
    chosen = list(range(len(source.records)))[:: max(1, len(source.records) // limit)][:limit]
    found = []
    for index in chosen:
        whole = frame_grid(source.whole(index))
        rows = torch.tensor(SHOWN_VIEWS)
        known = whole.known[rows].clone()
        known[:, 0] = True
        assert whole.cameras is not None
        cameras: Cameras = whole.cameras[rows, torch.arange(FRAMES)]
        found.append(FrameGrid(whole.frames[rows], known, cameras, whole.fps, whole.provenance))
    return found


def sampled(pipeline: Pipeline, plan: str, truth: FrameGrid, index: int, guided: bool) -> Tensor:
    """The grid [V, F, 4, S, S] from the truth's input view and views of frame 0; noise of its own for each clip."""
    video = to_uint8(rearrange(truth.frames[0], "f c h w -> f h w c"))
    return pipeline(
        video,
        views=len(truth.frames) - 1,
        cameras=truth.cameras,
        preprocess=PreprocessOptions(crop="none"),
        plan=PlanOptions(kind=plan),  # type: ignore[arg-type]
        sampler=SamplerOptions(guidance=None if guided else "none"),
        reference_views=truth.frames[1:, 0],
        generator=torch.Generator().manual_seed(index),
    ).frames


def measured(run: Path, grids: Path, plan: str, guided: bool, shown: list[FrameGrid]) -> dict[str, float]:
    """Metrics of one trained network and plan; kept, with a contact sheet of the first clip (truth above result)."""
    kept = run / f"{plan}{'' if guided else '.unguided'}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    pipeline = Pipeline(SmallModel(run / "weights.safetensors", grids))
    numbers = {id(truth): index for index, truth in enumerate(shown)}
    summary, made, _ = score(
        lambda truth: sampled(pipeline, plan, truth, numbers[id(truth)], guided), shown, f"{run.name} {plan}"
    )
    pair = torch.stack([shown[0].rgb(), made[0].rgb()], dim=1)
    labels = [f"{what} {40 * view}" for view in SHOWN_VIEWS for what in ("truth", plan)]
    rows = rearrange(pair, "v s f c h w -> (v s) f c h w")
    contact_sheet(rows, kept.with_suffix(".png"), row_labels=labels, max_columns=FRAMES)
    values = {row.name: float(row.value) for row in summary.rows}
    with atomic_path(kept) as path:
        path.write_text(json.dumps(values))
    return values


def trained(name: str, seed: int, grids: Path, options: argparse.Namespace) -> Path:
    """The run folder of one training, which is done or goes on first."""
    run = options.output / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
    Trainer(training_config(name, seed, grids, run, options.steps)).run()
    return run


def table(plan: str, rows: dict[tuple[str, int], dict[str, float]]) -> str:
    """One row for each (training, seed), one column for each metric."""
    names = list(next(iter(rows.values())))
    lines = ["", f"| {plan} | seed | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for (name, seed), values in rows.items():
        lines.append(f"| {name} | {seed} | {' | '.join(f'{values[metric]:.3f}' for metric in names)} |")
    return "\n".join(lines)


def main() -> int:
    """Train what is missing, measure every plan, print a row for each network and plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=["before", "after"])
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--unguided", action="store_true", help="sample without guidance")
    parser.add_argument("--limit", type=int, default=6, help="held-out clips")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "plan_gain")
    options = parser.parse_args()
    set_up_logging()
    grids = rendered(options.assets, options.output / "grids")
    shown = truths(grids, options.limit)
    runs = {(name, seed): trained(name, seed, grids, options) for seed in options.seeds for name in options.only}
    for plan in options.plans:
        rows = {key: measured(run, grids, plan, not options.unguided, shown) for key, run in runs.items()}
        print(table(plan, rows), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
