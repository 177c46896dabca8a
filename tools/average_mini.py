"""Mean of the weights of two mini networks of one training, such as before and after a critic.

python tools/average_mini.py runs/before/weights.safetensors runs/after/weights.safetensors 0.6 runs/mean.safetensors

0.6 is the second file's share (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3).
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file

from viewtime.errors import UserError
from viewtime.weight_header import check_keys
from viewtime.weights import read_header, save_weights


def main() -> int:
    """Write the mean, in float32, with the second file's metadata."""
    if len(sys.argv) != 5:
        print(__doc__, file=sys.stderr)
        return 2
    before, after, target = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[4])
    try:
        share = float(sys.argv[3])
        (_, first), (config, second) = read_header(before), read_header(after)
        shapes = [{name: info.shape for name, info in infos.items()} for infos in (first, second)]
        check_keys(before, shapes[1], shapes[0])
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    one, other = load_file(before), load_file(after)
    mean = {name: one[name].float().lerp(other[name].float(), share) for name in one}
    save_weights(target, mean, config)
    print(f"{target}: {1 - share:g} of {before}, {share:g} of {after}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
