"""What the plans for SV4D's windows cost in agreement over time, on a field whose statistics are known exactly.

    python benchmarks/plan_cost.py [--write docs/gpu.md]

The analytic model of the tests (`tests/sample/gaussian_model.py`): 4 views × 9 frames, windows of 4 beside a known
input row, an exact denoiser. A plan is judged by the variance of its cells and by the correlation of each cell with the
same view one frame later, against the field's own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "sample"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "sample" / "run"))

from gaussian_model import covariance
from test_runner import F, V, sample

from benchmarks.tables import write_table
from viewtime.sample.plan.plan import Problem, input_row
from viewtime.sample.plan.plans import make_plan

COMMAND = "python benchmarks/plan_cost.py --write docs/gpu.md"
PLANS = ("sv4d", "sv4d-apart", "sv4d2")


def row(name: str) -> str:
    """A line of the table."""
    published = Problem(9, 21, 8, 5, input_row(21) | {(view, 0) for view in range(9)}, inside=False)
    waves = len(make_plan(name, published).waves)
    truth = torch.from_numpy(covariance(V, F))
    with tempfile.TemporaryDirectory() as folder:
        cells, _ = sample(Path(folder), name, False, size=96, kind="edm")
    rows = cells.double().reshape(V * F, -1)
    made = rows @ rows.T / rows.shape[1]
    spread, wanted = made.diagonal().sqrt(), truth.diagonal().sqrt()
    ratio = (made.diagonal() / truth.diagonal()).reshape(V, F)[1:]
    error = (made / spread / spread[:, None] - truth / wanted / wanted[:, None]).abs()
    next_frame = torch.stack([error[v * F + f, v * F + f + 1] for v in range(1, V) for f in range(F - 1)])
    return f"| {name} | {waves} | {ratio.min():.2f} | {next_frame.mean():.3f} | {next_frame.max():.3f} |"


def main() -> None:
    """Print the table; write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    document = parser.parse_args().write
    lines = ["| plan | waves for 21 frames | least variance, of 1 | error of correlation in time, mean | largest |"]
    lines += ["|---|--:|--:|--:|--:|", *(row(name) for name in PLANS)]
    print("\n".join(lines))
    if document is not None:
        write_table(document, "plans", lines, COMMAND)


if __name__ == "__main__":
    main()
