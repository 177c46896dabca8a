"""A few-step student beside its teacher in many guided steps, and beside the teacher in as few steps as the student.

    python benchmarks/few_steps.py --assets FOLDER_WITH_THE_KAYKIT_GLBS \\
        --teacher runs/mini-guided/weights.safetensors --students runs/mini-student/weights.safetensors ...

Methods are named with their steps, of which the teacher's are guided. Random clips of every asset, nine regular views
of which view 0 is the input, every method from the same noise. Columns: network evaluations for a frame, CPU time as a
ratio to the teacher's, PSNR of the novel views to the teacher's on white, then each method against the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mini_table import METRICS, sampled, score  # noqa: E402
from benchmarks.mini_truth import Conditions, clips_of, frame_grid  # noqa: E402
from viewtime.configs.schema.sample import PlanOptions, SamplerOptions  # noqa: E402
from viewtime.data.live.asset_list import list_assets  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.images import contact_sheet  # noqa: E402
from viewtime.log import set_up_logging  # noqa: E402
from viewtime.sample.metrics.summary import Summary  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402

MEASURED = tuple(name for name in METRICS if name != "st_lpips")
BY_FRAME = PlanOptions(kind="independent", window_frames=1)


@dataclass(frozen=True)
class Row:
    """One method over all clips."""

    name: str
    evaluations: int
    seconds: float
    summary: Summary
    made: list[FrameGrid]

    def text(self, teacher: Row) -> str:
        """A line of the table."""
        ours, theirs = (torch.cat([grid.rgb()[1:].flatten() for grid in row.made]) for row in (self, teacher))
        to_teacher = "" if self is teacher else f"{psnr(ours, theirs):.1f} dB"
        cells = [str(self.evaluations), f"{self.seconds / teacher.seconds:.3f}", to_teacher]
        cells += [f"{row.value:.3f}" for row in self.summary.rows]
        return f"| {self.name} | {' | '.join(cells)} |"


def psnr(a: Tensor, b: Tensor) -> float:
    """In dB, of values in [0, 1]."""
    return -10 * float((a - b).square().mean().clamp_min(1e-12).log10())


def measure(name: str, weights: str, sampler: SamplerOptions, truths: list[FrameGrid]) -> Row:
    """Sample every clip frame by frame with noise that its frames share."""
    pipeline = Pipeline.from_pretrained(weights, device="cpu")
    steps = sampler.steps or pipeline.traits.sampler.steps
    branches = 1 if sampler.guidance in (None, "none") else 2
    start = time.process_time()
    summary, made, _ = score(sampled(pipeline, sampler, BY_FRAME), truths, name, MEASURED)
    return Row(name, steps * branches, time.process_time() - start, summary, made)


def main() -> int:
    """Parse, sample, print the table, write a contact sheet of the first clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--students", nargs="+", required=True)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--clips", type=int, default=4, help="of each asset")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "few_steps")
    options = parser.parse_args()
    set_up_logging()
    drawn = clips_of(list_assets(str(options.assets)), Conditions(options.frames), options.clips)
    truths = [frame_grid(sample) for sample in drawn]
    students = {w: Pipeline.from_pretrained(w, device="cpu").traits.sampler.steps for w in options.students}

    def guided(steps: int) -> SamplerOptions:
        scale = {"guidance": "constant", "guidance_high": options.guidance}
        return SamplerOptions(name="euler", steps=steps, frame_noise="shared", **scale)  # type: ignore[arg-type]

    teacher = measure(f"teacher, {options.steps}", options.teacher, guided(options.steps), truths)
    rows = [teacher]
    for steps in sorted(set(students.values()), reverse=True):
        rows.append(measure(f"teacher, {steps}", options.teacher, guided(steps), truths))
    for weights, steps in students.items():
        rows.append(measure(f"student, {steps}", weights, SamplerOptions(frame_noise="shared"), truths))
    head = ["method", "evaluations", "CPU time", "PSNR to the teacher", *(row.name for row in teacher.summary.rows)]
    print(f"{len(truths)} clips, 8 novel views × {options.frames} frames\n")
    print("\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(row.text(teacher) for row in rows)]))
    options.out.mkdir(parents=True, exist_ok=True)
    shown = {"truth": truths, **{row.name: row.made for row in rows}}
    pictures = torch.stack([grids[0].rgb()[:, 0] for grids in shown.values()])
    contact_sheet(pictures, options.out / "few_steps.png", row_labels=list(shown), max_columns=9)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
