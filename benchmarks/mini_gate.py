"""What copying scores on a training config's own validation batches: the number for its gate on the error at t = 1.

python benchmarks/mini_gate.py mini --assets FOLDER_WITH_THE_GLBS
python benchmarks/mini_gate.py mini-generalist --assets FOLDER_WITH_THE_GLBS
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.configs.load import build, load_preset  # noqa: E402
from viewtime.configs.schema.train import TrainConfig  # noqa: E402
from viewtime.train.objective.losses import sample_errors  # noqa: E402
from viewtime.train.registry import STREAMS, resolve  # noqa: E402
from viewtime.train.streams.batches import read_batch  # noqa: E402
from viewtime.train.watch.validation import VALIDATION_SEED  # noqa: E402


def main() -> int:
    """Print the mean squared error of the input copied, and copied and mirrored behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--assets", type=Path, required=True)
    options = parser.parse_args()
    config = build(TrainConfig, load_preset(options.config), where=options.config)
    section = config.validation
    data = {**config.data.options, "assets": str(options.assets), **section.data}
    factory = resolve(section.factory or config.data.factory, STREAMS, "stream")
    stream = iter(factory(data, batch_size=section.batch_size, seed=VALIDATION_SEED, rank=0, world=1))
    errors = []
    for _ in range(section.batches):
        batch = read_batch(next(stream), torch.device("cpu"))
        copied = batch.x0[:, :1].expand_as(batch.x0)
        azimuth = batch.cond["azimuth"] % 360
        behind = ((azimuth > 90) & (azimuth < 270))[..., None, None, None]
        mirrored = torch.where(behind, copied.flip(-1), copied)
        unknown = ~batch.cond["known"]
        errors.append(torch.stack([sample_errors(x, batch.x0, unknown).mean() for x in (copied, mirrored)]))
    copy, mirror = torch.stack(errors).mean(0).tolist()
    print(f"val/mse@1 of the input copied {copy:.3f}; copied, mirrored behind {mirror:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
