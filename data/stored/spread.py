"""The shards of a plan, each made by one process: of this one, of several here, or of a Ray cluster's nodes.

What is in a shard depends on the plan alone: pixels are the same bytes wherever it was made, latents equal to rounding.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from viewtime.configs.schema.encode import EncodeConfig
from viewtime.device import choose_device
from viewtime.errors import UserError, machine_failure
from viewtime.processes import end_with_parent
from viewtime.ray_cluster import ray_cluster

from .encode import encode_grid, sample_key
from .shards import ShardIndex, shard_name, write_shard

PIXEL_WORKERS = 2


class ShardEncoder:
    """Makes shards of a plan; holds the latents' networks, which are loaded once.

    Args:
        device: of the networks; None: as the config says.
    """

    def __init__(self, config: EncodeConfig, plan: dict[str, Any], device: str | None = None) -> None:
        self.config, self.plan, self.latents = config, plan, None
        if config.kind == "latents":
            from .latents import PublishedLatents

            where = choose_device(device or config.device)
            self.latents = PublishedLatents(config.weights or "", where, config.chunk)

    def encode(self, number: int) -> ShardIndex:
        """Make one shard; grids that cannot be encoded are recorded in its index."""
        config, failed = self.config, []
        source = Path(config.source)

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            for place, id in enumerate(self.plan["shards"][number]):
                options = {"resolution": config.resolution, "quality": config.quality, "latents": self.latents}
                try:
                    members = encode_grid(source / id, id, **options)
                except Exception as error:
                    if machine_failure(error) is not None:
                        raise
                    told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                    failed.append((id, told))
                    continue
                yield sample_key(number * config.samples_per_shard + place, id), members

        return write_shard(Path(config.out) / shard_name(number), samples(), failed)


def encode_all(config: EncodeConfig, plan: dict[str, Any], todo: list[int]) -> Iterator[ShardIndex]:
    """Indices of the shards `todo` as they become ready.

    Raises:
        UserError: no Ray cluster there, or a process was killed.
    """
    if not todo:
        return
    if config.ray is not None:
        yield from _by_ray(config, plan, todo)
        return
    devices = _devices(config)
    count = min(config.workers or (PIXEL_WORKERS if config.kind == "pixels" else len(devices)), len(todo))
    if count == 1:
        yield from map(ShardEncoder(config, plan).encode, todo)
        return
    yield from _by_processes(config, plan, todo, [devices[i % len(devices)] for i in range(count)])


def _devices(config: EncodeConfig) -> list[str]:
    """Every GPU of this machine, where the networks run on "cuda"; otherwise the one device."""
    if config.kind == "pixels":
        return ["cpu"]
    chosen = choose_device(config.device)
    if chosen.type != "cuda" or chosen.index is not None:
        return [str(chosen)]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


_here: ShardEncoder | None = None  # of a worker process


def _start(config: EncodeConfig, plan: dict[str, Any], devices: Any, threads: int) -> None:
    global _here
    end_with_parent()
    torch.set_num_threads(threads)
    _here = ShardEncoder(config, plan, devices.get())


def _encode(number: int) -> ShardIndex:
    assert _here is not None
    return _here.encode(number)


def _by_processes(config: EncodeConfig, plan: dict[str, Any], todo: list[int], devices: list[str]) -> Iterator:
    # Not "fork": a process that has used CUDA cannot be forked.
    context = multiprocessing.get_context("forkserver")
    waiting = context.Queue()
    for device in devices:
        waiting.put(device)
    settings = (config, plan, waiting, max(1, torch.get_num_threads() // len(devices)))
    with ProcessPoolExecutor(len(devices), context, initializer=_start, initargs=settings) as pool:
        try:
            for future in as_completed([pool.submit(_encode, number) for number in todo]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "an encoding process was killed (out of memory?) or could not start; run again with fewer --workers"
            ) from error


def _by_ray(config: EncodeConfig, plan: dict[str, Any], todo: list[int]) -> Iterator[ShardIndex]:
    """One actor a GPU for latents where the cluster has any, else one a CPU."""
    # Paths of this machine's working directory mean nothing on another.
    config = replace(config, source=str(Path(config.source).resolve()), out=str(Path(config.out).resolve()))
    with ray_cluster(str(config.ray)) as ray:
        from ray.util import ActorPool

        there = ray.cluster_resources()
        on_gpu = config.kind == "latents" and config.device != "cpu" and there.get("GPU", 0) >= 1
        count = int(there["GPU"] if on_gpu else there.get("CPU", 1))
        count = min(config.workers or count, count, len(todo))
        kind = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=2, max_task_retries=2)(ShardEncoder)
        shared = ray.put(plan)
        actors = ActorPool([kind.remote(config, shared) for _ in range(count)])
        made: Any = actors.map_unordered(lambda actor, number: actor.encode.remote(number), todo)
        yield from made
