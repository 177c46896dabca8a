"""The same work on a Ray cluster: batches of assets as tasks, each with its own watched worker process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from viewtime.configs.schema.render import RenderConfig
from viewtime.errors import UserError
from viewtime.ray_cluster import ray_cluster

from .assets import AssetFile
from .pool import Event, run_pool

BATCHES_PER_CPU = 4


def render_batch(assets: list[AssetFile], config: RenderConfig, done: frozenset[str]) -> list[Event]:
    """What a Ray task runs: one worker, events returned together."""
    return list(run_pool(assets, config, done, count=1))


def run_ray(assets: Sequence[AssetFile], config: RenderConfig, done: frozenset[str]) -> Iterator[Event]:
    """Render on every CPU of a Ray cluster whose nodes see the same files as this one.

    Args:
        config: `ray` is the cluster's address, or "local" for a cluster made here for this run.

    Raises:
        UserError: Ray is not installed or there is no cluster at the address.
    """
    with ray_cluster(str(config.ray)) as ray:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        # Paths of this machine's working directory mean nothing on another.
        config = replace(config, out=Path(config.out).resolve())
        assets = [replace(asset, path=asset.path.resolve()) for asset in assets]
        size = max(1, len(assets) // (cpus * BATCHES_PER_CPU))
        gpus = int(config.quality.device != "cpu")
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(render_batch)
        batches = {
            task.remote(list(assets[start : start + size]), config, done): assets[start : start + size]
            for start in range(0, len(assets), size)
        }
        pending = list(batches)
        while pending:
            finished, pending = ray.wait(pending, num_returns=1)
            for reference in finished:
                try:
                    yield from ray.get(reference)
                except UserError:
                    raise
                except Exception as error:
                    for asset in batches[reference]:
                        message = f"{type(error).__name__}: {str(error)[:200]}"
                        yield {"event": "failed", "asset": asset.id, "reason": "ray", "message": message}
