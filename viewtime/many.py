"""One command on many inputs: each in a process of its own, resumable, failures recorded, one table at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import tyro

from viewtime.configs.schema.many import ManyReconstructions, ManySamples
from viewtime.errors import UserError, require
from viewtime.files import append_jsonl, atomic_path, read_jsonl
from viewtime.log import log, progress_bar
from viewtime.run_lock import alone_in
from viewtime.where import is_grid

FILM_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif", ".webp", ".apng", ".avif")
RECORD, TABLE = "many.jsonl", "many.md"
ROOT = Path(__file__).resolve().parents[1]
Options: TypeAlias = ManySamples | ManyReconstructions


@dataclass(frozen=True)
class Item:
    """One input: its name, the words of its command, where its result goes."""

    name: str
    words: tuple[str, ...]
    out: Path


def videos_in(folder: Path) -> dict[str, Path]:
    """Videos and folders of pictures right below a folder, by name."""
    from viewtime.image_files import IMAGE_SUFFIXES  # late: every command imports this module

    found = {}
    for path in sorted(folder.iterdir()):
        pictures = path.is_dir() and any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
        if not path.name.startswith(".") and (pictures or (path.is_file() and path.suffix.lower() in FILM_SUFFIXES)):
            found[path.stem if path.stem not in found and path.is_file() else path.name] = path
    return found


def published_masks(path: Path) -> tuple[str, ...]:
    """`--mask` and the object's masks of a clip in DAVIS' layout: JPEGImages/480p/CLIP, Annotations/480p/CLIP."""
    resolution = path.resolve().parent
    masks = resolution.parent.parent / "Annotations" / resolution.name / path.name
    return ("--mask", str(masks)) if resolution.parent.name == "JPEGImages" and masks.is_dir() else ()


def grids_below(folder: Path) -> dict[str, Path]:
    """Grid folders at any depth, by their path."""
    inside = sorted(path for path in (folder, *folder.rglob("*")) if path.is_dir() and is_grid(path))
    return {"__".join(path.relative_to(folder).parts) or folder.name: path for path in inside}


@dataclass(frozen=True)
class Kind:
    """How a command takes many inputs: the flag, its options, how inputs are found, the words before each."""

    flag: str
    options: type[ManySamples] | type[ManyReconstructions]
    find: Callable[[Path], dict[str, Path]]
    words: tuple[str, ...]


KINDS = {
    "sample": Kind("--videos", ManySamples, videos_in, ("--video",)),
    "reconstruct": Kind("--grids", ManyReconstructions, grids_below, ()),
}


def asks_for_many(command: str, argv: list[str]) -> bool:
    """Whether a command line names a folder of inputs."""
    kind = KINDS.get(command)
    return kind is not None and any(word == kind.flag or word.startswith(f"{kind.flag}=") for word in argv)


def parse_many(command: str, argv: list[str], prog: str) -> tuple[Options, list[str]]:
    """The options of the whole and the words that each input's command gets too.

    Raises:
        SystemExit: `--help` (0) or misuse (2).
    """
    argv = ["--help"] if {"--help", "-h"} & set(argv) else argv  # `--videos --help` has no folder yet
    config, rest = tyro.cli(KINDS[command].options, args=argv, prog=prog, return_unknown_args=True)
    return config, rest


def run_many(command: str, config: Options, rest: list[str]) -> list[Path]:
    """Run what is not done yet; the table and the record.

    Raises:
        UserError: nothing there, or too large a share failed.
    """
    kind = KINDS[command]
    folder = config.videos if isinstance(config, ManySamples) else config.grids
    if not folder.is_dir():
        raise UserError(f"{kind.flag} {folder} is no folder")
    found = kind.find(folder)
    if not found:
        raise UserError(f"{kind.flag} {folder}: nothing in it that `viewtime {command}` takes")
    out = config.out.resolve()
    masked = any(word == "--mask" or word.startswith("--mask=") for word in rest)
    items = [
        Item(name, (command, *kind.words, str(path.resolve()), "--out", str(out / name), *masks, *rest), out / name)
        for name, path in found.items()
        for masks in [published_masks(path) if command == "sample" and not masked else ()]
    ]
    with alone_in(out):
        done = {
            row["item"] for row in _latest(out).values()
            if row["state"] == "done" and (out / row["item"]).is_dir() and _same(row, items)
        }  # fmt: skip
        todo = [item for item in items if item.name not in done]
        if done:
            log.info("%d of %d are there already", len(done), len(items))
        failed = 0
        with progress_bar(kind.flag.removeprefix("--"), len(todo)) as bar:
            for row in _outcomes(todo, config):
                append_jsonl(out / RECORD, row)
                failed += row["state"] == "failed"
                bar.advance(1, f"{failed} failed")
        rows = {name: row for name, row in _latest(out).items() if name in found}
        paths = [_write_table(rows, out), out / RECORD]
    failed = sum(row["state"] == "failed" for row in rows.values())
    print(paths[0].read_text(), end="")
    if failed > config.max_failed_share * len(items):
        raise UserError(
            f"{failed} of {len(items)} failed, more than --max-failed-share {config.max_failed_share:g}; "
            f"reasons in {out / TABLE}"
        )
    return paths


def _same(row: dict[str, Any], items: list[Item]) -> bool:
    """Whether the record is of the same command on the same input."""
    return any(list(item.words) == row["words"] for item in items if item.name == row["item"])


def _outcomes(items: list[Item], config: Options) -> Iterator[dict[str, Any]]:
    """A record of each item as it ends."""
    if config.jobs < 1:
        raise UserError(f"--jobs {config.jobs}; at least 1 is needed")
    threads = max(1, (os.cpu_count() or 1) // config.jobs)
    if config.ray is None:
        with ThreadPoolExecutor(config.jobs) as pool:
            running = [pool.submit(run_one, item, threads, os.getpid()) for item in items]
            yield from (future.result() for future in as_completed(running))
        return
    ray = require("ray", "render")
    address = None if config.ray == "local" else config.ray
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray has no narrower class for a cluster whose processes do not come up
        raise UserError(f"no Ray cluster at {config.ray!r}: {str(error)[:150]}; leave --ray out") from error
    try:
        task = ray.remote(num_cpus=threads, max_retries=2)(run_one)
        pending = [task.remote(item, threads, None) for item in items]
        while pending:
            (finished,), pending = ray.wait(pending, num_returns=1)
            yield ray.get(finished)
    finally:
        ray.shutdown()


def run_one(item: Item, threads: int, parent: int | None) -> dict[str, Any]:
    """Run one item's command to its end; its record.

    Args:
        parent: process with which it ends.
    """
    from viewtime.render_objaverse.lifetime import die_with

    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "viewtime.cli", *item.words], capture_output=True, text=True, env=environment,
        preexec_fn=None if parent is None else lambda: die_with(parent),
    )  # fmt: skip
    row = {"item": item.name, "words": list(item.words), "seconds": round(time.monotonic() - started, 1)}
    if done.returncode == 0:
        return row | {"state": "done"} | _scores(item.out)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return row | {"state": "failed", "reason": lines[-1]}


def _scores(out: Path) -> dict[str, float]:
    """PSNR and IoU that a reconstruction measured of itself, of held-out views where there are some."""
    path = out / "metrics.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text())
    measured = record.get("held_out") or record.get("train") or {}
    return {key: float(measured[key]) for key in ("psnr", "iou") if isinstance(measured.get(key), (int, float))}


def _latest(out: Path) -> dict[str, dict[str, Any]]:
    """The last record of each item."""
    path = out / RECORD
    return {row["item"]: row for row in (read_jsonl(path) if path.is_file() else [])}


def _write_table(rows: dict[str, dict[str, Any]], out: Path) -> Path:
    """One Markdown row per item, then the totals."""
    scores = [key for key in ("psnr", "iou") if any(key in row for row in rows.values())]
    lines = ["| item | state | seconds | " + "".join(f"{key} | " for key in scores) + "reason |"]
    lines.append("|" + " --- |" * (4 + len(scores)))
    for name, row in sorted(rows.items()):
        cells = [f"{row[key]:.4g}" if key in row else "" for key in scores]
        reason = str(row.get("reason", "")).replace("|", "\\|")
        lines.append("| " + " | ".join([name, row["state"], f"{row['seconds']:g}", *cells, reason]) + " |")
    failed = sum(row["state"] == "failed" for row in rows.values())
    lines.append(f"\n{len(rows) - failed} done, {failed} failed\n")
    with atomic_path(out / TABLE) as path:
        path.write_text("\n".join(lines))
    return out / TABLE
