"""One process of a pair (or of three) that samples guided windows of a small published network; see test_pairs.py."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from viewtime.cameras import regular_orbit
from viewtime.model.precision import part_dtypes
from viewtime.sample.models.video_grid_model import load_video_grid_model
from viewtime.sample.plan.plan import Problem, input_row
from viewtime.sample.plan.plans import make_plan
from viewtime.sample.run.processes import join_processes
from viewtime.sample.run.runner import Settings, own_steps, run_plan
from viewtime.sample.run.store import CellStore
from viewtime.sample.solver.guidance import Guidance
from viewtime.sample.solver.schedules import make_schedule

SIZE, FRAMES = 64, 5


class Counted:
    """A model that counts how many grids its network was given."""

    def __init__(self, model):
        self.model, self.evaluated = model, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    @property
    def denoiser(self):
        return self

    def __call__(self, x, sigma, cond):
        self.evaluated += len(x)
        return self.model(x, sigma, cond)


def main(folder, file):
    torch.set_num_threads(1)
    processes = join_processes()
    cpu = torch.device("cpu")
    model = Counted(load_video_grid_model(Path(file), None, cpu, part_dtypes(cpu), chunk=8, offload=False))
    model.model.resize(SIZE)
    traits = model.traits
    plan = make_plan(
        "sv4d2", Problem(1 + traits.novel_views, FRAMES, traits.window_views, 3, input_row(FRAMES), inside=False)
    )
    settings = Settings(make_schedule("edm", 3, sigma_max=10.0), guidance=Guidance("constant", high=2.0),
                        split_guidance=True)  # fmt: skip
    store = CellStore(Path(folder), plan)
    if processes.first:
        frames = torch.rand(FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        for frame, value in enumerate(frames):
            store.put_given((0, frame), value)
    processes.wait()
    done = list(
        run_plan(plan, model, store, regular_orbit(1 + traits.novel_views, FRAMES), settings, processes=processes)
    )
    steps = own_steps(plan, settings, processes)
    Path(folder, f"rank-{processes.rank}.txt").write_text(f"{len(plan.windows)} {len(done)} {model.evaluated} {steps}")


if __name__ == "__main__":
    main(*sys.argv[1:])
