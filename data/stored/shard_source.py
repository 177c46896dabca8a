"""Training grids from shards: split over consumers, shuffled anew each epoch, a random sub-grid of each."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from viewtime.arrays import read_array
from viewtime.data.pixels import cover_frames, decode_frames
from viewtime.data.samples import CorruptSampleError, GridSample, generator_for
from viewtime.data.sources import Consumer
from viewtime.data.views import draw_frames, draw_views
from viewtime.errors import UserError, machine_failure

from . import schema
from .shards import Entry, Shape, find_shards, read_index, read_sample


class ShardSource:
    """Samples of a set of shards, without end: one epoch follows another.

    Whole shards go to consumers where there are enough of them; otherwise every consumer reads all shards and takes
    each n-th sample.

    Args:
        where: folder or glob of shards.
        views, frames, max_stride: of the sub-grid (`data.views`).
        kind: "pixels" or "latents".
        shuffle_shards: shards whose samples are shuffled together.

    Attributes:
        size: (height, width) to which pixels are brought, of a bucket; None leaves them as stored.
    """

    name = "shards"

    def __init__(
        self, where: str, views: int, frames: int, max_stride: int = 1, kind: str = "pixels", shuffle_shards: int = 4
    ) -> None:
        self.shards = find_shards(where)
        self.entries: list[list[Entry]] = [read_index(shard).entries for shard in self.shards]
        self.views, self.frames, self.max_stride, self.kind = views, frames, max_stride, kind
        self.shuffle_shards = max(1, shuffle_shards)
        self.size: tuple[int, int] | None = None
        if not any(self.entries):
            raise UserError(f"the {len(self.shards)} shards at {where} hold no sample")
        self._epoch_order = lru_cache(maxsize=2)(self._order)
        self._epoch_starts: dict[tuple[int, int, int], list[int]] = {}

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_epoch_order", "_epoch_starts")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch_starts = {}
        self._epoch_order = lru_cache(maxsize=2)(self._order)

    def _order(self, seed: int, epoch: int, index: int, count: int) -> list[tuple[int, int]]:
        """(shard, entry) in the order in which consumer `index` of `count` sees them in this epoch."""
        rng = generator_for(seed, epoch, 3)
        filled = [shard for shard in range(len(self.shards)) if self.entries[shard]]
        shards = [filled[place] for place in rng.permutation(len(filled))]
        whole_shards = len(shards) >= count
        if whole_shards:
            shards = shards[index::count]
            rng = generator_for(seed, epoch, 4, index)
        order: list[tuple[int, int]] = []
        for start in range(0, len(shards), self.shuffle_shards):
            group = shards[start : start + self.shuffle_shards]
            members = [(shard, entry) for shard in group for entry in range(len(self.entries[shard]))]
            order.extend(members[place] for place in rng.permutation(len(members)))
        return (
            order
            if whole_shards
            else [order[place % len(order)] for place in range(index, max(len(order), count), count)]
        )

    def locate(self, consumer: Consumer, position: int) -> tuple[Path, Entry]:
        """Shard and sample at a position; epochs of one consumer may differ in length, so they are walked."""
        who = (consumer.seed, consumer.index, consumer.count)
        starts = self._epoch_starts.setdefault(who, [0])
        while starts[-1] <= position:
            seed, index, count = who
            starts.append(starts[-1] + len(self._epoch_order(seed, len(starts) - 1, index, count)))
        epoch = bisect_right(starts, position) - 1
        shard, entry = self._epoch_order(consumer.seed, epoch, consumer.index, consumer.count)[position - starts[epoch]]
        return self.shards[shard], self.entries[shard][entry]

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        shard, entry = self.locate(consumer, position)
        try:
            grid = read_grid(read_sample(shard, entry), self.kind, self.views, self.frames, self.max_stride, rng)
            if self.size is None or grid.frames is None:
                return grid
            return covering(grid, *self.size)
        except Exception as error:  # whatever one sample holds, the others are read
            if machine_failure(error) is not None:
                raise
            where = f"{shard.name}, sample {entry.key}"
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise CorruptSampleError(message if message.startswith(where) else f"{where}: {message}") from error


def stored_shape(shard: Path, entry: Entry) -> Shape:
    """Shape of a sample's grid, from the index, or from the sample where an older index says nothing of it.

    Raises:
        CorruptSampleError: the sample is damaged.
    """
    if entry.shape is not None:
        return entry.shape
    record = read_record(read_sample(shard, entry))
    return record.views, record.frames, record.height, record.width


def covering(grid: GridSample, height: int, width: int) -> GridSample:
    """A pixel sample scaled until it covers a size, and cut to it about its centre; the field of view follows."""
    assert grid.frames is not None
    frames, kept = cover_frames(grid.frames, height, width)
    tangent = kept * math.tan(math.radians(grid.cameras.fov_y) / 2)
    return replace(grid, frames=frames, cameras=replace(grid.cameras, fov_y=math.degrees(2 * math.atan(tangent))))


def read_record(members: dict[str, bytes]) -> schema.SampleRecord:
    """The checked record of a sample.

    Raises:
        CorruptSampleError: no record, no JSON, or not in this format.
    """
    try:
        return schema.SampleRecord.from_json(members[schema.META])
    except KeyError as error:
        raise CorruptSampleError(f"it has no {schema.META}") from error
    except UserError as error:
        raise CorruptSampleError(str(error)) from error


def read_grid(
    members: dict[str, bytes], kind: str, views: int, frames: int, max_stride: int, rng: np.random.Generator
) -> GridSample:
    """A random sub-grid of a stored sample; only the views it needs are decoded.

    Raises:
        CorruptSampleError: a member is missing or damaged, the stored grid is smaller than the sub-grid, or the sample
            holds no data of this kind.
    """
    record = read_record(members)
    if record.views < views or record.frames < frames:
        raise CorruptSampleError(
            f"it holds {record.views} × {record.frames} cells; {views} × {frames} are drawn from each"
        )
    view_index = draw_views(rng, record.views, views)
    frame_index = draw_frames(rng, record.frames, frames, max_stride)
    stride = int(frame_index[1] - frame_index[0]) if frames > 1 else 1
    wanted = schema.LATENTS if kind == "latents" else schema.PIXELS
    if wanted not in members:
        raise CorruptSampleError(f"it holds no {wanted}; was it encoded as another kind than data.options.kind {kind}?")
    pixels = latents = clip = None
    if kind == "latents":
        latents = _read_array(members, schema.LATENTS, record, view_index, frame_index)
        if schema.CLIP in members:
            clip = _read_array(members, schema.CLIP, record, view_index, frame_index)
    else:
        pixels = decode_frames(
            members[schema.PIXELS], record.frames, record.has_alpha, view_index.tolist(), frame_index.tolist()
        )
    try:
        cameras = schema.unpack_cameras(record)[view_index, frame_index].rezero(0)
    except UserError as error:
        raise CorruptSampleError(f"{schema.META}: {error}") from error
    facts = record.provenance | {"source": record.source}
    return GridSample(
        record.id, ShardSource.name, pixels, cameras, record.fps / stride, latents, clip,
        caption=str(facts.get("caption", "")), provenance=facts,
    )  # fmt: skip


def _read_array(
    members: dict[str, bytes], name: str, record: schema.SampleRecord, views: Tensor, frames: Tensor
) -> Tensor:
    try:
        array = read_array(io.BytesIO(members[name]), name)
        return torch.from_numpy(schema.check_array(name, array, record))[views][:, frames].float()
    except UserError as error:
        raise CorruptSampleError(f"{name}: {error}") from error
