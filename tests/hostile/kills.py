"""Kill each resumable command at its renames, removals and new folders, run it again, and compare with an undisturbed
run: `python -m tests.hostile.kills COMMAND [MOST_KILLS] [SEED]`.

Everything happens in forked children of one process, so that the imports are paid once. Prints one line a command;
exit code 1 where anything differs or is left over.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("sample", "data", "recon")]

from data_samples import save_grids  # noqa: E402
from scenes import training_grid  # noqa: E402
from small_models import ball, mini_weights  # noqa: E402

from tests.train.conftest import write_config  # noqa: E402
from viewtime import files  # noqa: E402
from viewtime.cli import main as viewtime  # noqa: E402
from viewtime.video import write_video  # noqa: E402

HOOKED = ("replace", "rename", "unlink", "mkdir", "rmdir")
TIMES = ("seconds", "samples_per_second", "data_wait", "memory_gb", "tflops_per_process", "val/seconds")


@dataclass(frozen=True)
class Case:
    """A command: what it reads is made by `prepare` in the working folder, what it writes lies in `run`."""

    prepare: Callable[[Path], Any]
    argv: tuple[str, ...]


def _video(folder: Path) -> None:
    mini_weights(folder)
    write_video(folder / "in.mp4", ball(2), 8)


CASES = {
    "sample": Case(
        _video,
        ("sample", "--video", "in.mp4", "--weights", "tiny-mini.safetensors", "--out", "run",
         "--views", "2",
         "--stream", "--sampler.steps", "1", "--save", "png"),
    ),
    "encode": Case(
        lambda folder: save_grids(folder / "grids", 4, views=2, frames=2, size=16),
        ("encode", "grids", "--out", "run", "--samples-per-shard", "2", "--workers", "1"),
    ),
    "reconstruct": Case(
        lambda folder: training_grid(views=3, frames=2, size=24).save(folder / "grid", lossless=True),
        ("reconstruct", "grid", "--out", "run", "--gaussians.count", "60", "--gaussians.static-iterations", "4",
         "--gaussians.dynamic-iterations", "6", "--save-every", "2", "--orbit-seconds", "0.1",
         "--mesh.resolution", "16",
         "--mesh.faces", "100", "--mesh.refine-iterations", "0", "--device", "cpu"),
    ),
    "train": Case(
        lambda folder: write_config(folder, checkpoint={"every_steps": 2, "keep_last": 1}, stages=[
            {"name": "only", "lr": 1e-3, "batch_size": 1, "steps": 5}]),
        ("train", "--config", "tiny.yaml", "--output", "run"),
    ),
}  # fmt: skip


def run(case: Case, folder: Path, kill_at: int = 0) -> tuple[int, int]:
    """(wait status, number of hooked calls) of the command in a child, which is killed at a hooked call."""
    counter, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counter)
        os.chdir(folder)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        calls = _hook(kill_at)
        code = viewtime(list(case.argv))
        os.write(told, str(calls[0]).encode())
        os._exit(code)
    os.close(told)
    _, status = os.waitpid(child, 0)
    with os.fdopen(counter) as reader:
        return status, int(reader.read() or 0)


def _hook(kill_at: int) -> list[int]:
    calls = [0]

    def counting(real: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in HOOKED:
        setattr(os, name, counting(getattr(os, name)))
    files.exchange = counting(files.exchange)
    return calls


def left_by(folder: Path) -> dict[str, str]:
    """Path -> digest of what it holds, without what tells the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[f"{name}/"] = ""
        elif path.suffix == ".safetensors":
            found[name] = _digest([(key, tensor.numpy().tobytes()) for key, tensor in sorted(load_file(path).items())])
        elif path.suffix in (".json", ".jsonl"):
            found[name] = _digest([_timeless(json.loads(line)) for line in _records(path)])
        elif path.suffix in (
            ".bin",
            ".pkl",
        ):  # optimiser and random states: pickles that differ in nothing that is read
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


def check(name: str, most: int, seed: int) -> list[str]:
    """Kill, run again, compare; a line for every kill after which something was not as undisturbed."""
    case, wrong = CASES[name], []
    with tempfile.TemporaryDirectory() as root:
        inputs = Path(root) / "inputs"
        inputs.mkdir()
        case.prepare(inputs)
        work = Path(root) / "work"
        shutil.copytree(inputs, work)
        status, calls = run(case, work)
        assert status == 0, (Path(root) / "log").read_text()
        expected = left_by(work)
        points = list(range(1, calls + 1))
        if len(points) > most:
            points = sorted(random.Random(seed).sample(points, most))
        for point in points:
            shutil.rmtree(work)
            shutil.copytree(inputs, work)
            status, _ = run(case, work, point)
            killed = os.WIFSIGNALED(status)
            again, _ = run(case, work)
            found = left_by(work)
            if not killed or again or found != expected:
                differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
                log = (Path(root) / "log").read_text()[-300:] if again else ""
                wrong.append(f"{name}, call {point}: killed {killed}, again {again}, differing {differing[:6]} {log}")
        print(f"{name}: {calls} calls, {len(points)} kills, {len(wrong)} left something else", flush=True)
    return wrong


def main(arguments: list[str]) -> int:
    """See the module."""
    torch.set_num_threads(1)
    names = [arguments[0]] if arguments and arguments[0] != "all" else list(CASES)
    most, seed = (int(value) for value in (*arguments[1:3], *("1000000", "0")[len(arguments[1:3]) :]))
    wrong = [line for name in names for line in check(name, most, seed)]
    print(*wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
