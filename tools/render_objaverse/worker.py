"""A worker process: takes assets from a pipe, reports every sample as it ends, survives any bad file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Set
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from viewtime.configs.schema.render import RenderConfig
from viewtime.errors import UserError

from .assets import AssetFile, content_of
from .blender import BlenderError
from .engines import AssetRenderer, finished_facts
from .gltf_file import AssetError
from .lifetime import die_with


def worker_main(connection: Connection, config: RenderConfig, cpus: tuple[int, ...]) -> None:
    """Serve until the pipe closes. Messages out: ("start", sample), ("event", record), ("asset", record)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    # A driver that is killed takes its workers along, and they their Blender.
    parent = multiprocessing.parent_process()
    die_with(parent.pid if parent is not None and parent.pid is not None else os.getppid())
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
        os.environ["LP_NUM_THREADS"] = str(len(cpus))
    try:
        renderer = AssetRenderer(config, cpus)
    except UserError as error:
        connection.send(("fatal", str(error)))
        return
    connection.send(("ready", None))
    try:
        while True:
            asset, skip = connection.recv()
            _render_asset(connection, renderer, asset, skip)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        renderer.close()


def _render_asset(connection: Connection, renderer: AssetRenderer, asset: AssetFile, skip: Set[str]) -> None:
    record: dict[str, Any] = {"asset": asset.id}
    try:
        record["content"] = content_of(asset.path)
        samples = renderer.open(asset)
    except Exception as error:
        connection.send(("asset", record | describe(error)))
        return
    folder = Path(renderer.config.out) / "grids"
    for sample in samples:
        if sample.name in skip:
            continue
        found = {**record, "sample": sample.name, "clip": sample.clip, "orbit": sample.orbit}
        final = folder / sample.name
        try:
            if (final / "grid.json").is_file():
                images = renderer.config.views * renderer.config.frames
                outcome = {"event": "rendered", **finished_facts(final), "images": images, "seconds": 0.0}
            else:
                connection.send(("start", sample.name))
                outcome = {"event": "rendered", **renderer.render(sample, final)}
        except Exception as error:
            outcome = describe(error)
        connection.send(("event", found | outcome))
    content = record["content"] if asset.whole else ""  # a later run with a larger limit opens it again
    connection.send(("asset", record | {"event": "asset", "content": content, "samples": len(samples)}))


def describe(error: Exception) -> dict[str, Any]:
    """An exception as a record: "rejected" where the asset is at fault, "failed" where the rendering is."""
    if isinstance(error, BlenderError):
        return {"event": "failed", "reason": error.reason, "message": str(error)}
    if isinstance(error, AssetError):
        return {"event": "rejected", "reason": error.reason, "message": str(error)}
    reason = "user_error" if isinstance(error, UserError) else type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return {"event": "failed", "reason": reason, "message": f"{str(error)[:300]} ({where})"}
