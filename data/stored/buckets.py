"""Buckets: stored samples of many sizes and lengths, put together so that each batch has one shape.

A sample belongs to one bucket for ever, and a batch's bucket is drawn from the seed and the batch's number alone, in
proportion to the samples in each: the same after a resume, and the same in all processes, none of which then waits at a
step for one with a larger batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from viewtime.data.samples import CorruptSampleError
from viewtime.errors import UserError
from viewtime.log import log

from .shard_source import ShardSource, stored_shape
from .shards import Entry, Shape


@dataclass(frozen=True)
class Bucket:
    """Shape of a batch's grids: frames, and pixels of a frame."""

    frames: int
    height: int
    width: int

    @property
    def name(self) -> str:
        """ "5x256x384"."""
        return f"{self.frames}x{self.height}x{self.width}"


def bucket_of(stored: Shape, buckets: Sequence[Bucket], views: int, exact: bool) -> Bucket | None:
    """Where a stored grid belongs: of the buckets that are not longer, those nearest in aspect ratio; of these the
    largest that it fills without enlargement, or the smallest if it fills none. None where it is too small.

    Args:
        stored: (views, frames, height, width).
        views: that a batch needs.
        exact: frames cannot be resized (latents), so height and width must be the bucket's.
    """
    V, F, H, W = stored
    fitting = [b for b in buckets if b.frames <= F and views <= V and (not exact or (b.height, b.width) == (H, W))]
    if not fitting:
        return None
    distance = {bucket: abs(math.log(bucket.height / bucket.width) - math.log(H / W)) for bucket in fitting}
    nearest = [bucket for bucket in fitting if distance[bucket] < min(distance.values()) + 1e-9]
    filled = [bucket for bucket in nearest if bucket.height <= H and bucket.width <= W]
    if filled:
        return max(filled, key=lambda bucket: (bucket.height * bucket.width * bucket.frames, bucket.frames))
    return min(nearest, key=lambda bucket: (bucket.height * bucket.width, -bucket.frames))


def bucket_sources(whole: ShardSource, shapes: Sequence[tuple[int, int, int]]) -> tuple[list[ShardSource], list[int]]:
    """A source for each bucket that has samples, and their number.

    Args:
        whole: all samples, with the views that a batch needs.
        shapes: (frames, height, width) of each bucket.

    Raises:
        UserError: a bucket that is none or is there twice, or none has a sample.
    """
    buckets = [Bucket(*shape) for shape in shapes]
    if len(set(buckets)) < len(buckets) or any(min(shape) < 1 for shape in shapes):
        raise UserError(
            f"data.options.buckets {[list(shape) for shape in shapes]}: each is [frames, height, width], once"
        )
    members: dict[Bucket, list[list[Entry]]] = {bucket: [[] for _ in whole.shards] for bucket in buckets}
    homeless = 0
    for number, (shard, entries) in enumerate(zip(whole.shards, whole.entries, strict=True)):
        for entry in entries:
            try:
                found = bucket_of(stored_shape(shard, entry), buckets, whole.views, whole.kind == "latents")
            except CorruptSampleError as error:
                log.warning("in no bucket: %s", error)
                continue
            if found is None:
                homeless += 1
            else:
                members[found][number].append(entry)
    counts = {bucket: sum(map(len, entries)) for bucket, entries in members.items()}
    log.info("buckets: %s", ", ".join(f"{bucket.name} {count} samples" for bucket, count in counts.items()))
    if homeless:
        log.warning("%d samples are in no bucket: too few views or frames, or latents of another size", homeless)
    filled = [bucket for bucket in buckets if counts[bucket]]
    if not filled:
        raise UserError("no sample has the views, frames and size of one of data.options.buckets")
    return [_part(whole, bucket, members[bucket]) for bucket in filled], [counts[bucket] for bucket in filled]


def _part(whole: ShardSource, bucket: Bucket, entries: list[list[Entry]]) -> ShardSource:
    part = copy.copy(whole)  # with an order of its own: see `ShardSource.__setstate__`
    part.name = f"shards {bucket.name}"
    part.entries, part.frames, part.size = entries, bucket.frames, (bucket.height, bucket.width)
    return part
