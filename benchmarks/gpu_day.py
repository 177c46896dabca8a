"""Everything that only a GPU can say, piece by piece, into a table and a JSON file; see tools/gpu_day.sh.

Each piece is a process of its own, so that one that fails or fills the card costs the others nothing. A piece that
finished or failed is not run again (delete OUT/NAME.json to do so); one that was cut off is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from viewtime.files import atomic_path  # noqa: E402

PUBLISHED = ("svd-xt", "sv3d-u", "sv3d-p", "sv4d", "sv4d2", "sv4d2-8views")
DTYPES = ("float32", "float16", "bfloat16")
SIZES = (256, 512)
FILM = ("--clips", "Cheer", "--engine", "gl", "--framing.fit", "projected", "--framing.base-fps", "7")


@dataclass(frozen=True)
class Piece:
    """One line of the table: a command, or a measurement by this file in another process."""

    name: str
    command: tuple[str, ...]


def pieces(out: Path, dry: bool) -> list[Piece]:
    """In the order in which they are worth knowing."""
    viewtime = (sys.executable, "-m", "viewtime.cli")
    own = (sys.executable, __file__, "--out", str(out), *(("--dry-run",) if dry else ()), "--piece")
    suffix = "-debug" if dry else ""
    found = [Piece(f"golden-{dtype}", (*own, f"golden-{dtype}")) for dtype in DTYPES]
    found += [Piece(f"window-{name}", (*own, f"window-{name}")) for name in PUBLISHED]
    found += [Piece(f"sampling-{name}", (*own, f"sampling-{name}")) for name in PUBLISHED]
    train = (sys.executable, "benchmarks/train_step.py", "--sv4d", f"sv4d{suffix}")
    found.append(Piece("training-step", train))
    asset, cells = (
        "examples/knight.glb",
        ("--views", "3", "--frames", "2") if dry else ("--views", "9", "--frames", "12"),
    )
    for size in (32,) if dry else SIZES:
        folder = out / f"film-{size}"
        film = (*viewtime, "render", asset, "--out", str(folder), "--size", str(size), *cells, *FILM)
        found.append(Piece(f"egl-{size}", film))
        found.append(Piece(f"gaussians-{size}", (*own, f"gaussians-{size}")))
        found.append(Piece(f"nerf-{size}", (*own, f"nerf-{size}")))
    short = ("--optimizer.accumulate", "1", "--output", str(out / "generalist"))
    config = "configs/mini-debug.yaml" if dry else "configs/mini-generalist.yaml"
    found.append(Piece("generalist", (*viewtime, "train", "--config", config, *short)))
    return found


def golden(dtype: str, device: str) -> dict[str, float]:
    """Golden networks and VAE on the device in one format, dB to the published numbers' own float32."""
    from benchmarks.precision import agreement

    return agreement(getattr(torch, dtype), device)


def window(name: str, dry: bool, whole: bool) -> dict[str, float]:
    """Seconds of each piece of a window, or of all of them, and peak memory, with random weights."""
    from benchmarks import gpu_jobs
    from viewtime.model.precision import part_dtypes

    device = torch.device("cpu" if dry else "cuda")
    job = gpu_jobs.published_job(f"{name}-debug" if dry else name, dtypes=part_dtypes(device), device=device)
    seconds: dict[str, float] = {}
    with torch.no_grad():
        for piece, work in job.pieces.items():
            work()
            synchronise(device)
            times = min(job.units[piece], 2) if dry or not whole else job.units[piece]
            began = time.monotonic()
            for _ in range(times if whole else 1):
                work()
            synchronise(device)
            seconds[f"{piece} (s)"] = time.monotonic() - began
    if not dry:
        seconds["peak (GB)"] = torch.cuda.max_memory_allocated() / 1e9
    if whole:
        seconds["all (s)"] = sum(value for key, value in seconds.items() if key.endswith("(s)"))
    return seconds


def synchronise(device: torch.device) -> None:
    """Wait for what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def fit(kind: str, size: str, out: Path, dry: bool) -> dict[str, float]:
    """Seconds of a fit of the rendered film, and its score."""
    grid = next((out / f"film-{size}" / "grids").glob("*/grid.json")).parent
    target = out / f"{kind}-{size}"
    options = ["--method", "nerf"] if kind == "nerf" else []
    section = "nerf" if kind == "nerf" else "gaussians"
    if dry:
        options += [f"--{section}.static-iterations", "2", f"--{section}.dynamic-iterations", "2"]
        options += ["--mesh.no-enabled"]
    began = time.monotonic()
    command = [sys.executable, "-m", "viewtime.cli", "reconstruct", str(grid), "--out", str(target), *options]
    subprocess.run(command, cwd=ROOT, check=True)
    return {"seconds": time.monotonic() - began}


def run_piece(name: str, out: Path, dry: bool) -> dict[str, float]:
    """A measurement by its name."""
    kind, _, which = name.partition("-")
    table: dict[str, Callable[[], dict[str, float]]] = {
        "golden": partial(golden, which, "cpu" if dry else "cuda"),
        "window": partial(window, which, dry, False),
        "sampling": partial(window, which, dry, True),
        "gaussians": partial(fit, "gaussians", which, out, dry),
        "nerf": partial(fit, "nerf", which, out, dry),
    }
    return table[kind]()


def day(out: Path, seconds: float, dry: bool, only: tuple[str, ...] = ()) -> int:
    """Run what is not finished until the time is over; returns how many pieces are left."""
    began, left = time.monotonic(), 0
    for piece in pieces(out, dry):
        record = out / f"{piece.name}.json"
        if record.is_file() or (only and not piece.name.startswith(only)):
            continue
        remaining = seconds - (time.monotonic() - began)
        if remaining <= 0:
            left += 1
            continue
        print(f"== {piece.name}", flush=True)
        started = time.monotonic()
        try:
            done = subprocess.run(piece.command, cwd=ROOT, capture_output=True, text=True, timeout=remaining)
        except subprocess.TimeoutExpired:
            left += 1
            continue
        lines = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip().splitlines()
        result: dict[str, Any] = {"ok": done.returncode == 0, "wall": time.monotonic() - started, "lines": lines[-40:]}
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(result, indent=1))
    write_table(out, dry)
    return left


def write_table(out: Path, dry: bool) -> None:
    """OUT/table.md and OUT/results.json from the finished pieces."""
    records = {piece.name: out / f"{piece.name}.json" for piece in pieces(out, dry)}
    results = {name: json.loads(path.read_text()) for name, path in records.items() if path.is_file()}
    rows = ["| piece | | seconds | last line |", "|---|---|--:|---|"]
    for name, result in results.items():
        last = result["lines"][-1] if result["lines"] else ""
        rows.append(f"| {name} | {'ok' if result['ok'] else '**failed**'} | {result['wall']:.1f} | {last[:200]} |")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text("\n".join([f"{device}, torch {torch.__version__}", "", *rows, ""]))
    with atomic_path(out / "results.json") as temporary:
        temporary.write_text(json.dumps({"device": device, "torch": torch.__version__, "pieces": results}, indent=1))


def main() -> int:
    """0 all pieces done, 3 some left for the next call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--dry-run", action="store_true", help="-debug twins on the CPU")
    parser.add_argument("--only", nargs="*", default=(), help="pieces whose names begin so")
    parser.add_argument("--piece", help="measure one piece in this process and print it")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.piece:
        print(json.dumps(run_piece(options.piece, options.out, options.dry_run)))
        return 0
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device here; --dry-run runs the same pieces with -debug twins on the CPU", file=sys.stderr)
        return 1
    left = day(options.out, options.seconds, options.dry_run, tuple(options.only))
    print((options.out / "table.md").read_text())
    return 3 if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
