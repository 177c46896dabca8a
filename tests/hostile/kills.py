"""Kill each resumable command, run it again, and compare with an undisturbed run: `python -m tests.hostile.kills
COMMAND|all [MOST_KILLS] [SEED] [calls|moments]`.

`calls` are its renames, removals and new folders, one after another; `moments` are drawn from the time that it takes
and need MOST_KILLS. Everything happens in forked children of one process, so that the imports are paid once. Prints
one line a command; exit code 1 where anything differs or is left over.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hostile import hooks

if TYPE_CHECKING:
    from tests.hostile.commands import Case

if __name__ == "__mp_main__" and hooks.COUNTER in os.environ:
    hooks.hook()  # a process of the command's own

TIMES = (
    "seconds", "samples_per_second", "images_per_second", "data_wait", "memory_gb", "tflops_per_process", "val/seconds",
    "_this_run",
)  # fmt: skip
# Optimiser and random states, and the list of a checkpoint's parts, in which each saving has a random number: pickles
# that differ in nothing that is read.
PICKLES = (".bin", ".pkl", ".metadata")
TOO_LATE = 20  # times as many moments as kills may lie behind a run's end


def start(case: Case, folder: Path, kill_at: int = 0) -> int:
    """The process of the command, which is killed at a hooked call."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        hooks.arm(folder.parent / "calls", kill_at)
        from viewtime.cli import main as viewtime

        os._exit(viewtime(list(case.argv)))
    return child


def run(case: Case, folder: Path, kill_at: int = 0, moment: float = 0.0) -> tuple[int, int]:
    """(exit code, number of hooked calls) of the command, killed at a call or after so many seconds."""
    counter = folder.parent / "calls"
    counter.unlink(missing_ok=True)
    child = start(case, folder, kill_at)
    if moment:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), counter.stat().st_size if counter.exists() else 0


def left_by(folder: Path) -> dict[str, str]:
    """Path -> digest of what it holds, without what tells the time."""
    from safetensors.torch import load_file

    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[f"{name}/"] = ""
        elif path.suffix == ".safetensors":
            found[name] = _digest([(key, tensor.numpy().tobytes()) for key, tensor in sorted(load_file(path).items())])
        elif path.suffix in (".json", ".jsonl"):
            found[name] = _digest([_timeless(json.loads(line)) for line in _records(path)])
        elif path.name.endswith(PICKLES):
            found[name] = ""
        else:
            found[name] = _digest(path.read_bytes())
    return found


def _records(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not key.endswith(TIMES)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).hexdigest()[:12]


class Killing:
    """One command in a folder of its own, killed again and again.

    Attributes:
        wrong: a line for every kill after which something was not as undisturbed.
    """

    def __init__(self, name: str, root: Path) -> None:
        from tests.hostile.commands import CASES
        from viewtime.cli import COMMANDS

        importlib.import_module(f"viewtime.{COMMANDS[name].module}")  # paid once, before the forks
        self.name, self.case, self.wrong = name, CASES[name], []
        self.log, self.inputs, self.work = root / "log", root / "inputs", root / "work"
        self.inputs.mkdir()
        self.case.prepare(self.inputs)
        self._fresh()
        started = time.monotonic()
        code, self.calls = run(self.case, self.work)
        self.seconds = time.monotonic() - started
        assert code == 0, self.log.read_text()
        self.expected = left_by(self.work)

    def _fresh(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.inputs, self.work)

    def at_calls(self, most: int, seed: int) -> int:
        """Kill at each call, or at `most` of them; how many."""
        points = list(range(1, self.calls + 1))
        points = sorted(random.Random(seed).sample(points, most)) if len(points) > most else points
        for point in points:
            self._fresh()
            code, _ = run(self.case, self.work, point)
            self._compare(f"call {point}", code == -signal.SIGKILL)
        return len(points)

    def at_moments(self, count: int, seed: int) -> int:
        """Kill at `count` moments; those that come after its end are drawn anew. How many."""
        rng, done = random.Random(seed), 0
        for _ in range(TOO_LATE * count):
            moment = rng.uniform(0.0, self.seconds)
            self._fresh()
            code, _ = run(self.case, self.work, moment=moment)
            if code == -signal.SIGKILL:
                done += 1
                self._compare(f"{moment:.3f} of {self.seconds:.3f} s", True)
            if done == count:
                break
        return done

    def _compare(self, when: str, killed: bool) -> None:
        again, _ = run(self.case, self.work)
        found = left_by(self.work)
        if killed and again == 0 and found == self.expected:
            return
        keys = sorted(found.keys() | self.expected.keys())
        differing = [key for key in keys if found.get(key) != self.expected.get(key)]
        log = self.log.read_text()[-300:] if again else ""
        self.wrong.append(f"{self.name}, {when}: killed {killed}, again {again}, differing {differing[:6]} {log}")


def check(name: str, most: int, seed: int, kind: str) -> list[str]:
    """Kill, run again, compare; a line for every kill after which something was not as undisturbed."""
    with tempfile.TemporaryDirectory() as root:
        killing = Killing(name, Path(root))
        kills = killing.at_moments(most, seed) if kind == "moments" else killing.at_calls(most, seed)
        print(f"{name}: {killing.calls} calls, {kills} kills at {kind}, {len(killing.wrong)} left something else",
              flush=True)  # fmt: skip
    return killing.wrong


def main(arguments: list[str]) -> int:
    """See the module."""
    import torch

    from tests.hostile.commands import CASES

    torch.set_num_threads(1)
    name, most, seed, kind = [*arguments, *("all", "1000000", "0", "calls")[len(arguments) :]]
    names = list(CASES) if name == "all" else [name]
    wrong = [line for name in names for line in check(name, int(most), int(seed), kind)]
    print(*wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
