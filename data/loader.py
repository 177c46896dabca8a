"""The training data loader: endless, the same for a seed and a world size, resumable to the exact sample."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from viewtime.configs.schema.data import DataConfig
from viewtime.data.augment import Augmentation, draw_background
from viewtime.data.collate import PreparedSample, TrainingBatch, collate, prepare
from viewtime.data.pixels import resize_frames
from viewtime.data.samples import CorruptSampleError, GridSample, generator_for
from viewtime.data.sources import Consumer, Mixture, Position
from viewtime.data.views import KNOWN_KINDS, known_cells
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.processes import end_with_parent

FAILURES_BEFORE_JUDGEMENT = 50  # draws of one consumer before the share of failures counts


@dataclass(frozen=True)
class Delivered:
    """What a worker hands over: a batch, where the worker stands after it, and what it had to skip on the way."""

    batch: TrainingBatch
    worker: int
    position: Position
    failures: list[tuple[str, str]]

    def pin_memory(self) -> Delivered:
        """Called by the data loader."""
        return replace(self, batch=self.batch.pin_memory())


class GridStream(IterableDataset):
    """Endless batches of one training process; runs inside the loader's workers."""

    def __init__(self, mixture: Mixture, config: DataConfig, rank: int = 0, world: int = 1) -> None:
        self.mixture, self.config, self.rank, self.world = mixture, config, rank, world
        self.first_worker = 0
        self.positions: dict[int, Position] = {}

    def __iter__(self) -> Iterator[Delivered]:
        info = get_worker_info()
        workers = info.num_workers if info else 1
        # After a resume the next batch is another worker's turn: workers take over each other's places.
        worker = ((info.id if info else 0) + self.first_worker) % workers
        consumer = Consumer(self.config.seed, self.rank, self.world, worker, workers)
        position = self.positions.get(worker, self.mixture.start())
        while True:
            samples: list[PreparedSample] = []
            failures: list[tuple[str, str]] = []
            while len(samples) < self.config.batch_size:
                sample, position = self._draw(consumer, position, failures)
                if sample is not None:
                    samples.append(sample)
            position = replace(position, batches=position.batches + 1)
            yield Delivered(collate(samples), worker, position, failures)

    def _draw(
        self, consumer: Consumer, position: Position, failures: list[tuple[str, str]]
    ) -> tuple[PreparedSample | None, Position]:
        index = self.mixture.choose(consumer, position)
        source = self.mixture.sources[index]
        rng = generator_for(consumer.seed, consumer.index, position.total, 1)
        try:
            sample = source.draw(consumer, position.drawn[index], rng)
            prepared = finish(sample, self.config, consumer, position)
        except CorruptSampleError as error:
            failures.append((source.name, str(error)))
            position = position.after(index, failed=True)
            _judge(position, self.config.max_failed_share, str(error))
            return None, position
        return prepared, position.after(index, failed=False)


def _judge(position: Position, limit: float, last: str) -> None:
    if position.total >= FAILURES_BEFORE_JUDGEMENT and position.skipped > limit * position.total:
        raise UserError(
            f"{position.skipped} of {position.total} samples had to be skipped; limit {limit:.0%} "
            f"(data.options.max_failed_share). The last: {last}"
        )


def finish(sample: GridSample, config: DataConfig, consumer: Consumer, position: Position) -> PreparedSample:
    """Size, known cells and augmentation of a drawn grid, from random numbers of their own."""
    rng = generator_for(consumer.seed, consumer.index, position.total, 2)
    if sample.frames is not None and sample.latents is None and not config.buckets:
        sample = replace(sample, frames=resize_frames(sample.frames, config.resolution))
    weights = {kind: getattr(config.known, kind) for kind in KNOWN_KINDS}
    known = known_cells(rng, *sample.shape, weights, config.known.random_share)
    augment = config.augment
    changes = Augmentation(augment.mirror, augment.reverse, augment.colour, augment.colour_strength)
    sample = replace(changes(rng, sample), known=known)
    return prepare(sample, config.channels, draw_background(rng, augment.background))


def _start_worker(_: int) -> None:
    """A worker ends with its training process and leaves stop signals, which reach the whole group, to that."""
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _plain_errors(loader: Iterable[Delivered]) -> Iterator[Delivered]:
    """The loader's items; a worker's `UserError`, which arrives as its whole traceback, is one line again."""
    try:
        yield from loader
    except UserError as error:
        raise UserError(str(error).rstrip().rsplit("UserError: ", 1)[-1]) from None


class GridLoader:
    """Iterates over `TrainingBatch`es without end and knows where it stands.

    Attributes:
        skipped: source name -> samples skipped so far in this process.
    """

    def __init__(self, mixture: Mixture, config: DataConfig, rank: int = 0, world: int = 1) -> None:
        _check_sizes(config, rank, world)
        self.mixture, self.config, self.rank, self.world = mixture, config, rank, world
        self.skipped: Counter[str] = Counter()
        self.first_worker = 0
        self.positions: dict[int, Position] = {}

    @property
    def slots(self) -> int:
        """Loader workers of this process; without worker processes the main process is the only one."""
        return max(1, self.config.workers)

    def __iter__(self) -> Iterator[TrainingBatch]:
        stream = GridStream(self.mixture, self.config, self.rank, self.world)
        stream.first_worker, stream.positions = self.first_worker, dict(self.positions)
        options: dict[str, Any] = {}
        if self.config.workers > 0:
            fresh = any(getattr(source, "needs_fresh_process", False) for source in self.mixture.sources)
            # Not "spawn": its workers end through the interpreter's finalisation, which aborts now and then while
            # the queue's thread still sends tensors.
            context = "forkserver" if fresh else "fork"
            options = {"prefetch_factor": self.config.prefetch, "multiprocessing_context": context}
            options["worker_init_fn"] = _start_worker
            multiprocessing.get_context(context).Lock()  # fails here without /dev/shm; DataLoader dies of it untidily
        loader = DataLoader(stream, batch_size=None, num_workers=self.config.workers, **options)
        for delivered in _plain_errors(loader):
            self.positions[delivered.worker] = delivered.position
            self.first_worker = (delivered.worker + 1) % self.slots
            for source, reason in delivered.failures:
                self.skipped[source] += 1
                log.warning("skipped a sample of %s: %s", source, reason)
            yield delivered.batch

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch handed out; plain values for a checkpoint (one per rank)."""
        return {
            "seed": self.config.seed,
            "world": self.world,
            "slots": self.slots,
            "sources": [source.name for source in self.mixture.sources],
            "first_worker": self.first_worker,
            "positions": {
                str(worker): {
                    "drawn": list(position.drawn),
                    "skipped": position.skipped,
                    "batches": position.batches,
                }
                for worker, position in self.positions.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the batch after which the state was taken; call before iterating.

        Raises:
            UserError: seed, world size, workers or sources differ from the run that wrote the state.
        """
        for name, value in self.state_dict().items():
            if name not in ("first_worker", "positions") and state.get(name) != value:
                raise UserError(
                    f"cannot resume the data: {name} was {state.get(name)} and is now {value}; "
                    "set it back, or start the data anew by leaving its state out"
                )
        self.first_worker = int(state["first_worker"])
        self.positions = {
            int(worker): Position(tuple(record["drawn"]), int(record["skipped"]), int(record.get("batches", 0)))
            for worker, record in state["positions"].items()
        }


def _check_sizes(config: DataConfig, rank: int, world: int) -> None:
    values = {name: getattr(config, name) for name in ("views", "frames", "max_stride", "batch_size")}
    for name, value in values.items():
        if value < 1:
            raise UserError(f"data.options.{name} is {value}; must be at least 1")
    if config.workers < 0 or (config.workers > 0 and config.prefetch < 1):
        raise UserError(
            f"data.options.workers {config.workers}, data.options.prefetch {config.prefetch}; must be ≥ 0 and ≥ 1"
        )
    if not 0 <= rank < world:
        raise UserError(f"rank {rank} of {world} processes; must lie in 0 … {world - 1}")
