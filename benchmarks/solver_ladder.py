"""Solver, steps and noise levels for a guided denoiser, by the error against a fine reference.

    python benchmarks/solver_ladder.py                                        # a mixture whose denoiser is exact
    python benchmarks/solver_ladder.py --weights runs/mini-guided/weights.safetensors --assets FOLDER_WITH_GLBS

The error is the root mean square distance of the results, over many starts from the same noise, in shares of their
standard deviation. The reference takes 400 Heun steps; a network may want less of everything. "made for it" is the
ladder of `viewtime.sample.solver.ladder`, from one run of 100 Euler steps from other noise than the table's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_truth import Conditions, clips_of, frame_grid  # noqa: E402
from viewtime.data.live.asset_list import list_assets  # noqa: E402
from viewtime.sample.models.mini_model import encode_cells  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402
from viewtime.sample.solver.guidance import Guidance  # noqa: E402
from viewtime.sample.solver.ladder import made_for  # noqa: E402
from viewtime.sample.solver.samplers import EVALUATIONS_PER_STEP, SAMPLERS  # noqa: E402
from viewtime.sample.solver.schedules import Schedule, make_schedule  # noqa: E402
from viewtime.train.objective.student import Guided  # noqa: E402

STEPS = (6, 8, 10, 13, 16, 20, 25, 30, 40, 50)
Denoise = Callable[[Tensor, float, int], Tensor]


@dataclass(frozen=True)
class Subject:
    """What is sampled: a guided denoiser, its kind of schedule, and start noise from a seed."""

    denoise: Denoise
    kind: str
    noise: Callable[[int], Tensor]

    def run(self, solver: str, levels: Tensor, seed: int = 0, on_step: Callable | None = None) -> Tensor:
        """Results from the noise of this seed."""
        schedule = Schedule(self.kind, levels)  # type: ignore[arg-type]
        x = self.noise(seed) * schedule.initial_scale
        return SAMPLERS[solver](self.denoise, x, schedule, *([on_step] if on_step else []))

    def ladder(self, steps: int) -> Tensor:
        """The published one: EDM from 700 to 0.002 with rho 7, or even times."""
        return make_schedule(self.kind, steps).sigmas.double()  # type: ignore[arg-type]


def mixture(guidance: float, count: int = 512, dim: int = 16, modes: int = 8) -> Subject:
    """Data at random centres with standard deviation 0.1; the condition names half of them. EDM."""
    random = torch.Generator().manual_seed(1)
    centres = torch.randn(modes, dim, generator=random, dtype=torch.float64)
    spread = 0.1

    def exact(x: Tensor, sigma: float, of: Tensor) -> Tensor:
        total = spread**2 + sigma**2
        weights = torch.softmax(-torch.cdist(x, of).square() / (2 * total), dim=1)
        gain = spread**2 / total
        return gain * x + (1 - gain) * (weights @ of)

    def guided(x: Tensor, sigma: float, step: int) -> Tensor:
        del step
        with_condition, without = exact(x, sigma, centres[: modes // 2]), exact(x, sigma, centres)
        return without + guidance * (with_condition - without)

    def noise(seed: int) -> Tensor:
        return torch.randn(count, dim, generator=torch.Generator().manual_seed(10 + seed), dtype=torch.float64)

    return Subject(guided, "edm", noise)


def network(weights: str, assets: Path, guidance: float) -> Subject:
    """A mini model on the first frame of one clip of each asset, the input view known; guided away from no input."""
    model = Pipeline.from_pretrained(weights, device="cpu").model
    truths = [frame_grid(sample) for sample in clips_of(list_assets(str(assets)), Conditions(1), 1)]
    x0 = torch.stack([encode_cells(truth.frames) for truth in truths])
    known = torch.stack([truth.known for truth in truths])
    cameras = [truth.cameras for truth in truths]
    cond = {
        "known": known,
        "known_frames": x0 * known[..., None, None, None],
        "elevation": torch.stack([c.elevation for c in cameras if c is not None]),
        "azimuth": torch.stack([torch.remainder(c.azimuth - c.azimuth[:1], 360) for c in cameras if c is not None]),
        "fov_y": torch.tensor([c.fov_y for c in cameras if c is not None]),
    }
    scale = Guidance("constant", high=guidance)
    denoise = Guided(model.denoiser, scale, ("known", "known_frames"), cond, x0, ~known)

    def noise(seed: int) -> Tensor:
        return torch.randn(x0.shape, generator=torch.Generator().manual_seed(10 + seed))

    return Subject(torch.no_grad()(denoise), model.denoiser.schedule_kind, noise)


def fine_run(subject: Subject) -> tuple[list[float], list[Tensor]]:
    """(levels, predictions) of 100 Euler steps from noise that the table does not use."""
    levels, predictions = subject.ladder(100), []
    subject.run("euler", levels, seed=1, on_step=lambda step, x, denoised: predictions.append(denoised))
    return levels[:-1].tolist(), predictions


def main() -> int:
    """Print the table and the smallest number of evaluations that is as near as 50 published Euler steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--solvers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--reference", type=int, default=400, help="Heun steps")
    parser.add_argument("--show", type=int, default=13, help="print the ladder of that many steps")
    options = parser.parse_args()
    if options.weights and not options.assets:
        parser.error("--weights needs --assets, a folder of GLBs to make clips from")
    known = options.weights is not None
    subject = network(options.weights, options.assets, options.guidance) if known else mixture(options.guidance)
    reference = subject.run("heun", subject.ladder(options.reference))
    course = fine_run(subject)

    def error(solver: str, levels: Tensor) -> float:
        made = subject.run(solver, levels)
        return float((made - reference).square().mean().sqrt() / reference.std())

    ladders = {
        "published": lambda steps, order: subject.ladder(steps),
        "made for it": lambda steps, order: made_for(*course, steps, order),
    }
    goal = error("euler", subject.ladder(50))
    print(f"| solver, ladder | {' | '.join(map(str, options.steps))} | evaluations as near as 50 Euler steps |")
    print("|---|" + "---|" * (len(options.steps) + 1))
    for solver in options.solvers:
        for name, ladder in ladders.items():
            errors = [error(solver, ladder(steps, 1 if solver == "euler" else 2)) for steps in options.steps]
            each = EVALUATIONS_PER_STEP[solver]
            near = [steps * each for steps, value in zip(options.steps, errors) if value <= goal * 1.0001]
            cells = [f"{value:.4f}" for value in errors]
            print(f"| {solver}, {name} | {' | '.join(cells)} | {near[0] if near else 'more'} |", flush=True)
    shown = made_for(*course, options.show)[:-1].tolist()
    print(f"\n--sampler.name dpmpp-2m --sampler.levels {' '.join(f'{level:.4g}' for level in shown)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
