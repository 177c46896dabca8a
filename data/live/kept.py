"""Grids of assets rendered once into memory-mapped files and drawn from again and again.

On a CPU rendering takes a large part of a training's time where every grid is new. A grid of many views shows its
instants from all sides, so that each of its views can be the input, and any others what is to be made.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from viewtime.cameras import Cameras
from viewtime.configs.schema.data import Kept
from viewtime.data.samples import CorruptSampleError, GridSample, generator_for
from viewtime.data.solids import CELLS, Solid
from viewtime.data.sources import Consumer
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import read_json
from viewtime.log import log, progress
from viewtime.processes import end_with_parent

from .scene_renderer import usual_views
from .stream import AssetSource

TRIES = 20  # draws of one grid before its source counts as broken
AT_ONCE = 50  # grids that a process renders before it says so
NUMBERS = 4  # of a grid beside its cameras' angles: field of view, distance, azimuth of the solid, frames per second


@dataclass(frozen=True)
class Store:
    """The files of a folder; a grid whose field of view is 0 is not there yet.

    Attributes:
        frames: uint8 [grids, V, F, 4, H, W].
        solids: uint8 [grids, F, bytes], packed bits, or None.
        numbers: float32 [grids, 2 V + NUMBERS]: elevations, azimuths from the first view, and the rest.
    """

    frames: np.ndarray
    solids: np.ndarray | None
    numbers: np.ndarray

    @staticmethod
    def at(folder: Path, kept: Kept, source: AssetSource, mode: Any) -> Store:
        """Opened, mode "r" or "r+", or made, mode "w+".

        Raises:
            UserError: a file is damaged.
        """
        renderer = source.renderer
        height, width = (side // source.options.supersample for side in renderer.size)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "frames": ((kept.grids, kept.views, renderer.frames, 4, height, width), np.uint8),
            "solids": ((kept.grids, renderer.frames, CELLS**3 // 8), np.uint8),
            "numbers": ((kept.grids, 2 * kept.views + NUMBERS), np.float32),
        }
        if not source.options.solid:
            del shapes["solids"]
        files = {}
        for name, (shape, dtype) in shapes.items():
            path = folder / f"{name}.npy"
            if mode == "w+":
                files[name] = np.lib.format.open_memmap(path, mode, dtype=dtype, shape=shape)
                continue
            try:
                files[name] = np.load(path, mmap_mode=mode)
            except (ValueError, EOFError) as error:
                raise UserError(f"{path} is damaged ({error}); remove {folder}, it is rendered again") from error
        return Store(files["frames"], files.get("solids"), files["numbers"])

    def missing(self) -> np.ndarray:
        """Indices of the grids that are not there yet."""
        return np.flatnonzero(self.numbers[:, -NUMBERS] == 0)

    def put(self, index: int, sample: GridSample) -> None:
        """Keep a grid."""
        assert sample.frames is not None
        cameras, views = sample.cameras, len(sample.cameras.azimuth)
        self.frames[index] = sample.frames.numpy()
        turn = 0.0
        if self.solids is not None and sample.solid is not None:
            self.solids[index] = np.packbits(sample.solid.cells.flatten(1).numpy(), axis=1)
            turn = sample.solid.azimuth
        self.numbers[index, : 2 * views] = torch.cat([cameras.elevation[:, 0], cameras.azimuth[:, 0]]).numpy()
        self.numbers[index, -NUMBERS:] = cameras.fov_y, float(cameras.distance[0, 0]), turn, sample.fps

    def get(self, index: int, views: list[int], source: str) -> GridSample:
        """These views of a grid, in their order; azimuths are counted from the first."""
        count, frames = self.frames.shape[1:3]
        numbers = torch.from_numpy(np.array(self.numbers[index]))
        fov_y, distance, turn, fps = numbers[-NUMBERS:].tolist()
        shape = (len(views), frames)
        elevation, azimuth = (part[views, None].expand(shape) for part in (numbers[:count], numbers[count : 2 * count]))
        solid = None
        if self.solids is not None:
            cells = np.unpackbits(self.solids[index], axis=1).reshape(frames, CELLS, CELLS, CELLS).astype(bool)
            solid = Solid(torch.from_numpy(cells), turn + float(azimuth[0, 0]))
        cameras = Cameras(elevation, azimuth, torch.full(shape, distance), fov_y).rezero(0)
        pixels = torch.from_numpy(np.ascontiguousarray(self.frames[index, views]))
        return GridSample(f"{source}/{index}", source, pixels, cameras, fps, solid=solid)


class KeptSource:
    """Draws of a folder of grids, which are rendered when it is made, by as many processes as asked for.

    Args:
        source: renders grids of `kept.views` views.
        views: of a draw.
        processes: that render; what is there does not depend on it.

    Raises:
        UserError: the folder holds grids of other settings, or a grid cannot be rendered.
    """

    name = "kept"

    def __init__(self, source: AssetSource, kept: Kept, views: int, processes: int) -> None:
        if kept.grids < 1:
            raise UserError(f"data.options.kept.grids is {kept.grids}; must be at least 1")
        if not 1 <= views <= kept.views:
            raise UserError(f"data.options.views {views}: kept grids have {kept.views} (data.options.kept.views)")
        folder = Path(kept.folder)
        self.views, self.usual = views, usual_views(kept.views, source.options)
        _prepare(folder, kept, source)
        missing = Store.at(folder, kept, source, "r").missing()
        if len(missing):
            log.info("%d grids are rendered first, into %s, where later runs find them", len(missing), folder)
            _render(missing, folder, kept, source, processes)
        self.store = Store.at(folder, kept, source, "r")
        self._opened = (folder, kept, source)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "store": None}  # a memory map is pickled as all its bytes

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.store = Store.at(*self._opened, "r")

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        del consumer, position  # everything random comes from `rng`, which belongs to both
        grids, count = self.store.frames.shape[:2]
        first = int(rng.integers(self.usual))
        others = rng.permutation([view for view in range(count) if view != first])[: self.views - 1]
        return self.store.get(int(rng.integers(grids)), [first, *others.tolist()], self.name)


def _settings(kept: Kept, source: AssetSource) -> dict[str, Any]:
    """What decides the grids."""
    renderer = source.renderer
    options = {name: value for name, value in asdict(source.options).items() if name != "cached_assets"}
    return {
        "grids": kept.grids,
        "views": kept.views,
        "frames": renderer.frames,
        "size": list(renderer.size),
        "max_stride": renderer.max_stride,
        "seed": kept.seed,
        "assets": [[asset.id, asset.path.stat().st_size] for asset in source.assets],
        "options": json.loads(json.dumps(options)),
    }


def _prepare(folder: Path, kept: Kept, source: AssetSource) -> None:
    """Empty files for what is to be kept, where there are none; kept.json is written last."""
    record, wanted = folder / "kept.json", _settings(kept, source)
    if record.is_file():
        there = read_json(record, dict)
        if other := [name for name, value in wanted.items() if there.get(name) != value]:
            raise UserError(f"{folder} holds grids of other {', '.join(other)}; remove it or name another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    Store.at(folder, kept, source, "w+")
    with atomic_path(record) as path:
        path.write_text(json.dumps(wanted, indent=1))


def _render(missing: np.ndarray, folder: Path, kept: Kept, source: AssetSource, processes: int) -> None:
    """Render these grids in processes of their own: a fork of a process with an OpenGL driver in it hangs."""
    parts = [missing[start : start + AT_ONCE].tolist() for start in range(0, len(missing), AT_ONCE)]
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _open, (folder, kept, source))
    try:
        for _ in progress(pool.map(_render_part, parts, [kept.seed] * len(parts)), "rendering grids", total=len(parts)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # a run that is ended waits for the parts that are begun, not for all


_opened: tuple[Store, AssetSource] | None = None


def _open(folder: Path, kept: Kept, source: AssetSource) -> None:
    """Start of a rendering process."""
    global _opened
    end_with_parent()
    torch.set_num_threads(1)
    _opened = Store.at(folder, kept, source, "r+"), source


def _render_part(part: list[int], seed: int) -> None:
    """Render these grids; what a grid shows depends on the seed and its index alone."""
    assert _opened is not None
    store, source = _opened
    for index in part:
        store.put(index, _grid(source, seed, index))


def _grid(source: AssetSource, seed: int, index: int) -> GridSample:
    failures = []
    for attempt in range(TRIES):
        try:
            return source.draw(Consumer(seed), index, generator_for(seed, index, attempt, 6))
        except CorruptSampleError as error:
            failures.append(str(error))
    raise UserError(f"grid {index} could not be rendered in {TRIES} draws; the last: {failures[-1]}")
