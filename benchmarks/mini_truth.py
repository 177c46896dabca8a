"""Ground truth of mini's tables: held-out clips of the specialist's family, held-out characters of the generalist.

All grids have nine regular views, of which view 0 is the input.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.data import DataConfig, OnTheFly
from viewtime.configs.schema.family import FamilyConfig
from viewtime.data.live.asset_list import Asset, held_out_groups, held_out_ids, list_assets
from viewtime.data.live.family import render_family
from viewtime.data.live.family_source import FamilySource
from viewtime.data.live.stream import AssetSource
from viewtime.data.samples import CorruptSampleError, GridSample, generator_for
from viewtime.data.sources import Consumer
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.tools.render_objaverse.gltf import load_scene

VIEWS, FRAMES = 9, 12
HELD_OUT = "heldout/generalist"
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
    assert sample.frames is not None
    known = torch.zeros(sample.frames.shape[:2], dtype=torch.bool)
    known[0] = True
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


@dataclass(frozen=True)
class Conditions:
    """How held-out assets are shown: frames of a clip, pixels, degrees, and the share of new colours of parts."""

    frames: int = FRAMES
    size: int = 64
    elevation: float = 12.0
    new_colours: bool = False

    def options(self) -> OnTheFly:
        """Of the renderer."""
        changed = 1.0 if self.new_colours else 0.0
        return OnTheFly(elevation_min=self.elevation, elevation_max=self.elevation, vary_colours=changed)


def held_out_clips(curated: Path, groups: list[str], shown: Conditions, clips: int) -> list[FrameGrid]:
    """`clips` random moving clips of every asset of these groups of configs/heldout/generalist.yaml.

    Args:
        curated: folder of `viewtime curate`; assets of the list that are not there are left out.
    """
    named = {one for group in groups for one in held_out_groups(HELD_OUT)[group]}
    chosen = [asset for asset in list_assets(str(curated)) if asset.id in named]
    return [frame_grid(sample) for sample in clips_of(chosen, shown, clips)]


def training_clips(curated: Path, shown: Conditions, clips: int) -> list[np.ndarray]:
    """The same of every asset that is in no group: what a retrieval may look into."""
    assets = list_assets(str(curated))
    named = set(held_out_ids(DataConfig(held_out_list=HELD_OUT), assets))
    drawn = clips_of([asset for asset in assets if asset.id not in named], shown, clips)
    return [sample.frames.numpy() for sample in drawn if sample.frames is not None]


def clips_of(assets: list[Asset], shown: Conditions, clips: int) -> Iterator[GridSample]:
    """`clips` random moving clips of every asset; what cannot be drawn is left out with a warning."""
    for asset in assets:
        rng = generator_for(0, *asset.id.encode())
        named = asset.clips or [clip.name for clip in load_scene(asset.path).clips if clip.duration >= 1]
        for clip in rng.permutation(sorted(named))[:clips]:
            one = dataclasses.replace(asset, clips=(str(clip),))
            source = AssetSource([one], VIEWS, shown.frames, shown.size, options=shown.options())
            try:
                yield source.draw(Consumer(0), 0, rng)
            except CorruptSampleError as error:
                log.warning("left out: %s", error)
