"""Ground truth of mini's tables: held-out clips of the specialist's family, held-out characters of the generalist.

All grids have nine regular views, of which view 0 is the input, and twelve frames.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.family import FamilyConfig
from viewtime.data.live.asset_list import list_assets, split_assets
from viewtime.data.live.family import render_family
from viewtime.data.live.family_source import FamilySource
from viewtime.data.live.stream import AssetSource
from viewtime.data.samples import GridSample, generator_for
from viewtime.data.sources import Consumer
from viewtime.grid import FrameGrid

VIEWS, FRAMES = 9, 12
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Truth:
    """Held-out grids, and the frames that a retrieval may look into: uint8 [V, F, 4, H, W] each.

    Motions that were recombined for training are left out: their poses are worse answers.
    """

    held_out: list[FrameGrid]
    training: list[np.ndarray]


def frame_grid(sample: GridSample) -> FrameGrid:
    """A sample as a grid of which view 0 is known, named in its provenance."""
    known = torch.zeros(VIEWS, FRAMES, dtype=torch.bool)
    known[0] = True
    assert sample.frames is not None
    return FrameGrid(sample.frames.float() / 255, known, sample.cameras, sample.fps, {"id": sample.id})


def family_parser(text: str | None, limit: int) -> argparse.ArgumentParser:
    """The options of a benchmark of weights on the specialist's family; `text` is its docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "kaykit64")
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--limit", type=int, default=limit)
    return parser


def family(assets: Path, folder: Path) -> tuple[FamilySource, np.ndarray, FamilySource]:
    """Training grids, which of them are recombined (bool), held-out grids; rendered into `folder` where missing."""
    config = build(FamilyConfig, load_preset("families/kaykit"), where="families/kaykit")
    rendered = render_family(config, assets, folder)
    training, held_out = (FamilySource(rendered, only, VIEWS, FRAMES) for only in (False, True))
    return training, np.array([record["variant"] >= config.variants for record in training.records]), held_out


def family_truth(assets: Path, folder: Path, limit: int) -> Truth:
    """At most `limit` of the specialist's held-out clips, spread over all."""
    training, recombined, source = family(assets, folder)
    chosen = list(range(len(source.records)))[:: max(1, len(source.records) // limit)][:limit]
    held_out = [frame_grid(source.whole(index)) for index in chosen]
    return Truth(held_out, [grid for grid, other in zip(training.grids, recombined, strict=True) if not other])


def character_truth(curated: Path, clips: int = 2) -> Truth:
    """`clips` random moving clips of every held-out character of configs/mini-generalist.yaml, and of every other.

    Args:
        curated: folder of `viewtime curate`.
    """
    raw = load_preset("mini-generalist")
    options = {**raw["data"]["options"], **raw["validation"]["data"], "assets": str(curated)}
    config = build(DataConfig, options, where="mini-generalist")
    assets = list_assets(config.assets)
    split = [split_assets(assets, config.held_out, only) for only in (True, False)]
    samples: list[list[GridSample]] = [[], []]
    for part, drawn in zip(split, samples):
        for asset in part:
            rng = generator_for(0, *asset.id.encode())
            for clip in rng.permutation(sorted(asset.clips or ()))[:clips]:
                one = dataclasses.replace(asset, clips=(str(clip),))
                source = AssetSource([one], VIEWS, FRAMES, config.resolution, options=config.on_the_fly)
                drawn.append(source.draw(Consumer(0), 0, rng))
    held_out, training = samples
    return Truth([frame_grid(s) for s in held_out], [s.frames.numpy() for s in training if s.frames is not None])
