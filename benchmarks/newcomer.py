"""What somebody new goes through, from a fresh clone on: each step's seconds, CPU seconds and memory.

    python benchmarks/newcomer.py --video in.mp4 [--folder runs/newcomer]

Clones this repository (what is committed), then there: `make demo` with its installation; the video of one's own into
an asset; README's Python example, as it stands there; the notebook of `examples/`. The table is written to
FOLDER/newcomer.md too. A step that is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = (
    "import nbformat, nbclient; n = nbformat.read('video_to_asset.ipynb', 4); nbclient.NotebookClient(n).execute()"
)


def steps(clone: Path, video: Path) -> list[tuple[str, list[str], Path]]:
    """Name, command and folder of each step."""
    python, viewtime = str(clone / ".venv/bin/python"), str(clone / ".venv/bin/viewtime")
    pip = [python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "nbclient", "nbformat", "ipykernel"]
    return [
        ("clone", ["git", "clone", "--quiet", str(ROOT), str(clone)], clone.parent),
        ("install", ["tools/setup.sh"], clone),
        ("make demo", ["make", "demo"], clone),
        ("own video: grid", [python, "sample.py", "--video", str(video), "--frames", "12"], clone),
        ("own video: asset", [viewtime, "reconstruct", f"outputs/{video.stem}"], clone),
        ("README's example", [python, "example.py"], clone / "example"),
        ("the notebook's needs", pip, clone),
        ("the notebook", [python, "-c", NOTEBOOK], clone / "examples"),
    ]


def measured(command: list[str], folder: Path, log: Path) -> dict[str, float]:
    """Run a command to its end; seconds, CPU seconds and peak memory of it and of what it started.

    Raises:
        SystemExit: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(errors="replace").splitlines()[-12:]
        raise SystemExit("\n".join([f"{shlex.join(command)} failed ({process.returncode}); {log} ends:", *tail]))
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


def prepare_example(clone: Path) -> None:
    """README's Python lines and the video that they name."""
    (clone / "example").mkdir(exist_ok=True)
    (code,) = re.findall(r"```python\n(.*?)```", (clone / "README.md").read_text(), re.DOTALL)
    (clone / "example" / "example.py").write_text(code)
    shutil.copy(clone / "examples" / "knight.mp4", clone / "example" / "in.mp4")


def main() -> int:
    """Parse the options, do every step, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True, help="a video of your own")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "newcomer", help="where everything goes")
    options = parser.parse_args()
    folder, video = options.folder.resolve(), options.video.resolve()
    clone = folder / "viewtime"
    folder.mkdir(parents=True, exist_ok=True)
    table = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n",
        "| step | seconds | CPU seconds | peak MB |\n| --- | --- | --- | --- |",
    ]
    for number, (name, command, place) in enumerate(steps(clone, video)):
        if name == "README's example":
            prepare_example(clone)
        kept = folder / f"{number}.json"
        if not kept.is_file():
            print(f"$ {shlex.join(command)}", flush=True)
            kept.write_text(json.dumps(measured(command, place, folder / f"{number}.log")))
        found = json.loads(kept.read_text())
        table.append(f"| {name} | {found['seconds']:.0f} | {found['cpu_seconds']:.0f} | {found['peak_mb']:.0f} |")
    text = "\n".join(table)
    (folder / "newcomer.md").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
