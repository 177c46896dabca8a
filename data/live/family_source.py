"""Training and validation batches out of a rendered family (`data.family`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from viewtime.cameras import Cameras
from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.family import FamilyConfig
from viewtime.data.loader import GridLoader
from viewtime.data.samples import GridSample
from viewtime.data.sources import Consumer, Mixture
from viewtime.data.views import draw_subgrid
from viewtime.errors import UserError
from viewtime.json_files import read_json

from .family import render_family


@dataclass(frozen=True)
class FamilyGrid:
    """What stands beside each grid of a family."""

    id: str
    held_out: bool
    fps: float
    cameras: dict[str, Any]


class FamilySource:
    """Random sub-grids of the grids of a family folder; any of the regular views can be the input view.

    Args:
        folder: made by `render_family`.
        held_out: the clips that are never trained on, instead of the others.
        views, frames, max_stride: of the sub-grids.
    """

    name = "family"

    def __init__(self, folder: Path, held_out: bool, views: int, frames: int, max_stride: int = 1) -> None:
        self.views, self.frames, self.max_stride = views, frames, max_stride
        records = [read_json(path, FamilyGrid) for path in sorted(folder.glob("*.json")) if path.stem != "family"]
        self.records = [record for record in records if record.held_out == held_out]
        if not self.records:
            raise UserError(f"{folder} holds no {'held-out' if held_out else 'training'} grid")
        self.grids = [np.load(folder / f"{record.id}.npy", mmap_mode="r") for record in self.records]
        self.cameras = [Cameras.from_json(record.cameras) for record in self.records]

    def whole(self, index: int) -> GridSample:
        """The complete grid of one clip, azimuths counted from view 0."""
        record = self.records[index]
        frames = torch.from_numpy(np.array(self.grids[index]))
        return GridSample(record.id, self.name, frames, self.cameras[index], record.fps)

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """A sub-grid of a random clip; see `data.sources.Source`."""
        del consumer, position  # everything random comes from `rng`, which belongs to both
        return draw_subgrid(
            rng, self.whole(int(rng.integers(len(self.grids)))), self.views, self.frames, self.max_stride
        )


def family_loader(config: DataConfig, family: str, folder: str, held_out: bool, rank: int, world: int) -> GridLoader:
    """The loader of a family; renders it first where that has not been done.

    Args:
        config: `assets` names the folder of GLB files.
        family: preset under configs/families, or a YAML file.
        folder: where the rendered grids are kept.
    """
    name = family if Path(family).suffix else f"families/{family}"
    rendered = render_family(build(FamilyConfig, load_preset(name), where=family), config.assets, folder)
    source = FamilySource(rendered, held_out, config.views, config.frames, config.max_stride)
    return GridLoader(Mixture([source], [1.0]), config, rank, world)
