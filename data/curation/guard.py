"""Runs a function on untrusted input in a process with limited memory and time.

A file may make a reader loop, swallow memory or crash in native code. The worker then dies alone: its task gets a
reason, the next task a fresh worker.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from viewtime.render_objaverse.lifetime import die_with


class GuardedError(Exception):
    """The task failed. `reason` is a stable word: the function's own, or "timeout", "memory", "crash"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


WALL_PATIENCE = 15  # times the limit on processor time: a busy machine must not make good files look bad


def _serve(
    connection: Connection, function: Callable[..., Any], memory_bytes: int, timeout_s: float, parent: int
) -> None:
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(usage.ru_utime + usage.ru_stime + timeout_s)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))  # past it, SIGXCPU ends the process
        try:
            outcome = ("done", function(*arguments), "")
        except MemoryError:
            outcome = ("failed", "memory", f"needs more than {memory_bytes / 2**30:.1f} GB")
        except Exception as error:  # the boundary: whatever a bad file raises becomes its reason
            reason = getattr(error, "reason", "unreadable")
            outcome = ("failed", reason, f"{error}" or type(error).__name__)
        try:
            connection.send(outcome)
        except BrokenPipeError:  # the run was killed meanwhile
            return


class GuardedWorker:
    """One process that calls `function(*arguments)` again and again; replaced whenever it dies.

    Args:
        function: importable by name (it is called in another process); its result must be picklable.
        memory_gb: limit on the process's address space.
        timeout_s: seconds of processor time for one call, and `WALL_PATIENCE` times as long by the clock.
    """

    def __init__(self, function: Callable[..., Any], memory_gb: float = 4.0, timeout_s: float = 60.0) -> None:
        self.function, self.memory_bytes, self.timeout_s = function, int(memory_gb * 2**30), timeout_s
        self._process: Any = None
        self._connection: Connection | None = None

    def call(self, *arguments: Any) -> Any:
        """The function's result.

        Raises:
            GuardedError: it raised, ran out of memory or time, or its process died.
        """
        connection = self._start()
        connection.send(arguments)
        if not connection.poll(WALL_PATIENCE * self.timeout_s):
            self.close()
            raise GuardedError("timeout", f"no answer within {WALL_PATIENCE * self.timeout_s:g} s")
        try:
            state, value, message = connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            if code == -signal.SIGXCPU:
                raise GuardedError("timeout", f"took longer than {self.timeout_s:g} s of processor time") from None
            raise GuardedError("crash", f"the reading process died (exit code {code})") from None
        if state == "failed":
            raise GuardedError(value, message)
        return value

    def _start(self) -> Connection:
        if self._connection is not None and self._process.is_alive():
            return self._connection
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self.function, self.memory_bytes, self.timeout_s, os.getpid()),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        return self._connection

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None
