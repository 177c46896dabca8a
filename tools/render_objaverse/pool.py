"""Worker processes on one machine: pinned to their cores, watched, killed when stuck, replaced, retried."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from viewtime.configs.schema.render import RenderConfig
from viewtime.errors import UserError

from .assets import AssetFile
from .worker import worker_main

Event = dict[str, Any]


class _Slot:
    """One worker process and what it is doing."""

    def __init__(self, config: RenderConfig, cpus: tuple[int, ...]) -> None:
        self.config, self.cpus = config, cpus
        self.asset: AssetFile | None = None
        self.sample: str | None = None
        self._spawn()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.connection: Connection = ours
        self.process = context.Process(target=worker_main, args=(theirs, self.config, self.cpus), daemon=True)
        self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + self.config.workers.timeout

    def give(self, asset: AssetFile, skip: frozenset[str]) -> None:
        self.asset, self.sample = asset, None
        self.touch()
        # A worker that died while idle is noticed by the end of its pipe, like any other death.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send((asset, skip))

    def touch(self) -> None:
        self.deadline = time.monotonic() + self.config.workers.timeout

    def kill(self) -> None:
        """Kill the worker and everything it started."""
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.join()
        self.connection.close()

    def restart(self) -> None:
        self.kill()
        self.asset = self.sample = None
        self._spawn()


def cpu_sets(count: int) -> list[tuple[int, ...]]:
    """The cores of this process dealt out to `count` workers (0: one worker a core)."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    count = count or len(cpus)
    return [tuple(cpus[index::count]) or (cpus[index % len(cpus)],) for index in range(count)]


def run_pool(assets: Iterable[AssetFile], config: RenderConfig, done: frozenset[str], count: int) -> Iterator[Event]:
    """Render assets on `count` workers and yield an event for every sample and every finished asset.

    A worker that dies or shows no progress for `config.workers.timeout` seconds is replaced and its asset tried
    again; a sample (or an asset that cannot even be opened) that did this `retries` + 1 times is recorded as
    failed and passed over.

    Args:
        done: names of samples that are settled already.

    Raises:
        UserError: the workers cannot start at all (no EGL, no bpy).
    """
    waiting = deque(assets)
    slots = [_Slot(config, cpus) for cpus in cpu_sets(count)[: max(1, min(count or len(waiting), len(waiting)))]]
    skip: set[str] = set(done)
    attempts: Counter[str] = Counter()
    idle: list[_Slot] = []
    try:
        while waiting or any(slot.asset for slot in slots):
            while waiting and idle:
                idle.pop().give(waiting.popleft(), frozenset(skip))
            ready = wait([slot.connection for slot in slots], timeout=0.5)
            for slot in slots:
                if slot.connection in ready:
                    try:
                        kind, payload = slot.connection.recv()
                    except (EOFError, ConnectionResetError):
                        yield from _lost(slot, "crashed", config, attempts, skip, waiting)
                        continue
                    yield from _message(slot, kind, payload, skip, idle)
                elif (slot.asset or slot not in idle) and time.monotonic() > slot.deadline:
                    yield from _lost(slot, "timeout", config, attempts, skip, waiting)
    finally:
        for slot in slots:
            slot.kill()


def _message(slot: _Slot, kind: str, payload: Any, skip: set[str], idle: list[_Slot]) -> Iterator[Event]:
    slot.touch()
    if kind == "fatal":
        raise UserError(payload)
    if kind == "start":
        slot.sample = payload
    elif kind == "event":
        slot.sample = None
        skip.add(payload["sample"])
        yield payload
    else:
        if kind == "asset":
            yield payload
        slot.asset = slot.sample = None
        idle.append(slot)


def _lost(
    slot: _Slot,
    reason: str,
    config: RenderConfig,
    attempts: Counter[str],
    skip: set[str],
    waiting: deque[AssetFile],
) -> Iterator[Event]:
    """A worker died or hangs: count it against the sample it was at, and let the asset be tried again."""
    asset, sample = slot.asset, slot.sample
    slot.restart()
    if asset is None:
        key = f"start {slot.cpus}"
        attempts[key] += 1
        if attempts[key] > config.workers.retries:
            raise UserError(f"a worker process cannot start ({reason}, {attempts[key]} times); try --workers.count 1")
        return
    key = sample or f"asset {asset.id}"
    attempts[key] += 1
    if attempts[key] <= config.workers.retries:
        waiting.appendleft(asset)
        return
    message = f"{reason} {attempts[key]} times"
    if reason == "timeout":
        message += f" after {config.workers.timeout:g} s"
    if sample is None:
        yield {"event": "failed", "asset": asset.id, "reason": reason, "message": message}
        return
    skip.add(sample)
    yield {"event": "failed", "asset": asset.id, "sample": sample, "reason": reason, "message": message}
    waiting.appendleft(asset)
