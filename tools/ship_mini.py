"""Put the weights of a training run of mini into the package, in half precision, with the way to sample them.

    python tools/ship_mini.py runs/mini-critic/weights.safetensors viewtime/assets/mini.safetensors \\
        --steps 5 --shift 0.15 --plan independent --plan-frames 2

Of several files the mean ships (Wortsman et al. 2022, "Model soups"), with the record of the first. The generalist:

    python tools/ship_mini.py runs/mini-generalist-cpu/weights.safetensors --steps 1 --shift 1 --plan independent \\
        --plan-frames 32 --alpha-range 0.4 0.5 --size 128 --settle --own-hue \\
        --out viewtime/assets/mini_generalist.safetensors
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.errors import UserError  # noqa: E402
from viewtime.model.mini.config import MiniConfig  # noqa: E402
from viewtime.sample.plan.plans import PLANS  # noqa: E402
from viewtime.weight_header import check_keys  # noqa: E402
from viewtime.weights import read_header, save_weights  # noqa: E402

STARTS_AT_ZERO = ("network.hint", "network.read_quarter", "network.read_deep")
SHIPPED = ROOT / "viewtime" / "assets" / "mini.safetensors"


def mean_of(paths: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of the files' tensors, in float32; what a file has not yet grown counts as zeros, as it starts.

    Raises:
        UserError: a file is no weight file, or its tensors are not those of the first.
    """
    shapes = [{name: info.shape for name, info in read_header(path)[1].items()} for path in paths]
    grown = {name: shape for name, shape in shapes[0].items() if name.rpartition(".")[0].endswith(STARTS_AT_ZERO)}
    for path, found in zip(paths, shapes, strict=True):
        check_keys(path, {**grown, **found}, shapes[0])
    files = [load_file(path) for path in paths]
    zeros = {name: torch.zeros(list(shape)) for name, shape in grown.items()}
    whole = [{**zeros, **file} for file in files]
    return {name: torch.stack([file[name].float() for file in whole]).mean(dim=0) for name in shapes[0]}


def main() -> int:
    """Write the file; 1 and a line that says why where it cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--shift", type=float, required=True)
    parser.add_argument("--frame-noise", choices=("independent", "shared"), default="shared")
    parser.add_argument("--alpha-range", type=float, nargs=2, default=(0.0, 1.0))
    parser.add_argument("--size", type=int, help="of the cells that a solid is shown in; default: as it was trained")
    parser.add_argument("--settle", action="store_true", help="parts that its solid leaves as mist are made opaque")
    parser.add_argument("--own-hue", action="store_true", help="its solid's cells keep the hues of their pixels")
    parser.add_argument("--plan", choices=sorted(PLANS), default="joint")
    parser.add_argument("--plan-frames", type=int, default=12, help="frames of a window")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    try:
        mean = mean_of(options.weights)
        config, _ = read_header(options.weights[0])
        shape = MiniConfig(**config["model"]["config"])
        shape = replace(shape, frustum_settle=options.settle, frustum_own_hue=options.own_hue)
        if options.size is not None:
            seen = shape.frustum_size or shape.size
            shape = replace(shape, size=options.size, frustum_size=seen, frustum_rays=options.size)
        config = {**config, "model": {**config["model"], "config": asdict(shape)}}
    except UserError as error:
        print(f"ship_mini.py: {error}", file=sys.stderr)
        return 1
    trained = {
        "views": 9,
        "frames": max(12, options.plan_frames),
        "elevation": 12.0,
        "plan": options.plan,
        "plan_frames": options.plan_frames,
        "steps": options.steps,
        "shift": options.shift,
        "frame_noise": options.frame_noise,
        "alpha_range": options.alpha_range,
    }
    halves = {name: tensor.to(torch.float16) for name, tensor in mean.items()}
    save_weights(options.out, halves, {**config, "trained": trained})
    print(f"{options.out} {options.out.stat().st_size / 1e6:.1f} MB, {config.get('training', 'no record of training')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
