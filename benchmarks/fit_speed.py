"""CPU seconds of a Gaussian fit by part on one thread, beside those of another checkout of the project.

    python benchmarks/fit_speed.py GRID [--against CHECKOUT] [--rounds 3] [--static 60 --dynamic 120] [--count 2000]

GRID is a grid folder, for example runs/demo/sample/grid of `make demo`. A baseline is any commit with the same calls:
`git worktree add ../before dd8e7bf`, then --against ../before. Both sides run one after the other in processes of
their own, round by round, and the median of each part is printed with its ratio: a step of the static and of the
dynamic stage (once all frames take part), the mesh of the asset that the short fit leaves, and its orbit film.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 20  # steps of each stage that are not counted


def measure(options: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds of each part, in the checkout that stands first on the path."""
    import dataclasses

    import torch

    import viewtime
    from viewtime.configs.load import build, load_preset
    from viewtime.configs.schema.reconstruct import ReconstructConfig
    from viewtime.grid import FrameGrid
    from viewtime.recon.export.films import write_orbit
    from viewtime.recon.fitting.targets import make_targets
    from viewtime.recon.gaussians.fit import GaussianFit
    from viewtime.recon.gaussians.initialise import first_gaussians
    from viewtime.recon.gaussians.reconstruct import bake
    from viewtime.recon.surface.mesh_choice import best_mesh

    assert Path(viewtime.__file__).is_relative_to(Path.cwd()), f"{viewtime.__file__} is not of this checkout"
    torch.set_num_threads(1)
    grid = FrameGrid.load(options.grid)
    config = build(ReconstructConfig, {**load_preset("fast"), "grid": "grid"}, where="fast")
    stages = {
        "count": options.count,
        "static_iterations": WARM_UP + options.static,
        "dynamic_iterations": 2 * (WARM_UP + options.dynamic),  # all frames take part in the second half
    }
    config = dataclasses.replace(config, gaussians=dataclasses.replace(config.gaussians, **stages))
    targets, spent = make_targets(grid), {}
    fit = GaussianFit(targets, first_gaussians(targets, config), config)

    def steps(count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            fit.step()
        return 1000 * (time.process_time() - began) / count

    steps(WARM_UP)
    spent["static step"] = steps(options.static)
    steps(2 * WARM_UP + options.dynamic)
    spent["dynamic step"] = steps(options.dynamic)
    asset = bake(fit, grid)
    began = time.process_time()
    best_mesh(asset, targets, grid.orbit, config.mesh)
    spent["mesh"] = 1000 * (time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        write_orbit(asset, Path(folder) / "orbit.mp4")
        spent["orbit film"] = 1000 * (time.process_time() - began)
    return spent


def run_in(checkout: Path, options: argparse.Namespace) -> dict[str, float]:
    """The parts' times in a process that imports from this checkout."""
    numbers = [f"--{name}={getattr(options, name)}" for name in ("static", "dynamic", "count")]
    command = [sys.executable, __file__, str(options.grid.resolve()), "--inside", *numbers]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Print the table, or as the process inside, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--static", type=int, default=60, help="steps measured")
    parser.add_argument("--dynamic", type=int, default=120)
    parser.add_argument("--count", type=int, default=2000, help="Gaussians")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options)))
        return
    sides = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    rounds = [[run_in(side, options) for side in sides] for _ in range(options.rounds)]
    print(f"{'CPU ms':14s}" + "".join(f"{name:>12s}" for name in ("here", "against")[: len(sides)]) + f"{'ratio':>8s}")
    for part in rounds[0][0]:
        times = [statistics.median(one[k][part] for one in rounds) for k in range(len(sides))]
        ratio = f"{times[0] / times[1]:8.2f}" if len(times) > 1 else ""
        print(f"{part:14s}" + "".join(f"{value:12.1f}" for value in times) + ratio)


if __name__ == "__main__":
    main()
