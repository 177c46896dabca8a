"""The asset without a fit beside fits of the same grid: what it costs, how near it comes, and what a fit gains from it.

    python benchmarks/direct_table.py VIDEO [VIDEO ...] [--frames 12] [--folder runs/direct_table]

Each video is sampled once; then `viewtime reconstruct` runs on its grid: with `--method direct` (whole, and without
mesh and film), as a fit with its defaults, with half the iterations, and with half of them from the direct asset.
Seconds, CPU seconds and memory are those of the command; PSNR and mask IoU against the grid are from its
`metrics.json`. The table is written to FOLDER/table.md too. A step that is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import numpy as np
from newcomer import ROOT, measured

from viewtime.configs.schema.reconstruct import GaussianOptions

COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "psnr", "iou")


def half_the_iterations() -> list[str]:
    """Options that halve both stages of the fit's defaults."""
    usual = GaussianOptions()
    static, dynamic = usual.static_iterations // 2, usual.dynamic_iterations // 2
    return [f"--gaussians.static-iterations={static}", f"--gaussians.dynamic-iterations={dynamic}"]


def ways(direct: Path) -> dict[str, list[str]]:
    """Name and options of each way to reconstruct; `direct`: the folder of the first one's asset."""
    start = ["--init.source=asset", f"--init.asset={direct}"]
    return {
        "direct": ["--method=direct"],
        "direct, Gaussians alone": ["--method=direct", "--mesh.no-enabled", "--orbit-seconds=0"],
        "fit": [],
        "fit, half the iterations": half_the_iterations(),
        "fit from the direct asset, half the iterations": [*start, *half_the_iterations()],
    }


def measured_once(result: Path, command: list[str], out: Path) -> dict[str, float]:
    """What a command cost and what its asset scores, measured once and kept in the file `result`."""
    if not result.is_file():
        print(f"$ {shlex.join(command)}", flush=True)
        row = measured(command, ROOT, result.with_suffix(".log"))
        metrics = out / "metrics.json"
        scores = json.loads(metrics.read_text())["train"] if metrics.is_file() else {}
        result.write_text(json.dumps({**row, **{name: scores[name] for name in ("psnr", "iou") if name in scores}}))
    return json.loads(result.read_text())


def rows_of(video: Path, frames: int, folder: Path) -> dict[str, dict[str, float]]:
    """A row for each way, of one video's grid."""
    viewtime = str(ROOT / ".venv/bin/viewtime")
    grid = folder / "grid"
    folder.mkdir(parents=True, exist_ok=True)
    sample = [viewtime, "sample", f"--video={video}", f"--frames={frames}", f"--out={grid}"]
    rows = {"sample": measured_once(folder / "sample.json", sample, grid)}
    outs = {name: folder / name.replace(", ", "-").replace(" ", "-") for name in ways(folder)}
    for name, options in ways(outs["direct"]).items():
        command = [viewtime, "reconstruct", str(grid), f"--out={outs[name]}", *options]
        rows[name] = measured_once(outs[name].with_suffix(".json"), command, outs[name])
    return rows


def main() -> int:
    """Parse, run what has not been run, print the table of means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "direct_table")
    options = parser.parse_args()
    if len({video.stem for video in options.videos}) < len(options.videos):
        parser.error("two videos have one name, and their folders are called by it")
    folder = options.folder.resolve()
    found = [
        rows_of(video.resolve(), options.frames, folder / f"{video.stem}-{options.frames}") for video in options.videos
    ]
    lines = [f"| mean of {len(found)} videos | s | CPU s | peak MB | PSNR | mask IoU |", "|---|---|---|---|---|---|"]
    for name in found[0]:
        cells = [np.mean([rows[name].get(column, np.nan) for rows in found]) for column in COLUMNS]
        seconds, cpu, memory, psnr, iou = cells
        quality = "– | –" if np.isnan(psnr) else f"{psnr:.1f} | {iou:.3f}"
        lines.append(f"| {name} | {seconds:.0f} | {cpu:.0f} | {memory:.0f} | {quality} |")
    text = "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
