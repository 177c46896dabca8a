"""Put the weights of a training run of configs/mini.yaml into the package, in half precision.

python tools/ship_mini.py runs/mini/weights.safetensors 3 0.15 shared    # steps, shift and frame noise of the sampler
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.weights import read_header, save_weights  # noqa: E402

SHIPPED = ROOT / "viewtime" / "assets" / "mini.safetensors"
TRAINED = {"views": 9, "frames": 12, "elevation": 12.0}


def main() -> int:
    """Write viewtime/assets/mini.safetensors."""
    if len(sys.argv) != 5 or sys.argv[4] not in ("independent", "shared"):
        print(__doc__, file=sys.stderr)
        return 2
    source = Path(sys.argv[1])
    config, _ = read_header(source)
    trained = {**TRAINED, "steps": int(sys.argv[2]), "shift": float(sys.argv[3]), "frame_noise": sys.argv[4]}
    halves = {name: tensor.to(torch.float16) for name, tensor in load_file(source).items()}
    save_weights(SHIPPED, halves, {**config, "trained": trained})
    print(f"{SHIPPED} {SHIPPED.stat().st_size / 1e6:.1f} MB, {config['training']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
