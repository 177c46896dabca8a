"""How often the object of a film is found: IoU of the mask with the truth on films whose object is known.

python benchmarks/masks.py --assets FOLDER --films held
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.mask_clips import SETS, film_of  # noqa: E402
from viewtime.sample.input.found_sheet import found_sheet  # noqa: E402
from viewtime.sample.input.matting_network import MattingNetwork  # noqa: E402
from viewtime.sample.input.object_track import find_object  # noqa: E402

RIGHT = 0.8  # IoU from which a mask is called right


def overlap(found: np.ndarray, inside: np.ndarray) -> float:
    """Mean over the frames of the IoU of masks bool [F, H, W]."""
    both, either = (found & inside).sum(axis=(1, 2)), (found | inside).sum(axis=(1, 2))
    return float(np.mean(both / np.maximum(either, 1)))


def main() -> int:
    """Parse the options, print a line for each film and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--assets", type=Path, required=True, help="folder of animated GLBs that holds the films' assets"
    )
    parser.add_argument("--films", choices=list(SETS), default="held", help="tuned: those that the method was made on")
    parser.add_argument("--network", default="u2netp", help="as --preprocess.network of viewtime sample")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "mask_films", help="folder where films are kept")
    options = parser.parse_args()
    network = MattingNetwork(options.network)
    values, doubtful, sheets = [], [], []
    for number, case in enumerate(SETS[options.films]):
        frames, inside = film_of(case, number, options.assets, options.cache / options.films)
        started = time.monotonic()
        alpha, said = find_object(frames, network)
        values.append(overlap(alpha > 127, inside))
        doubtful.append(bool(said))
        seconds = (time.monotonic() - started) / len(frames)
        print(
            f"{case.asset:24s} {case.behind:22s} IoU {values[-1]:.3f}  {seconds:.2f} s a frame  {'; '.join(said)}",
            flush=True,
        )
        sheets.append(found_sheet(frames, np.minimum(alpha, 254), columns=6))
    right, told = np.array(values) > RIGHT, np.array(doubtful)
    print(f"{options.films}: mean IoU {np.mean(values):.3f}, {right.mean():.0%} of {len(values)} films above {RIGHT}")
    print(f"called doubtful: {told[~right].sum()} of {(~right).sum()} wrong ones, {told[right].sum()} of the others")
    sheet = options.cache / f"{options.films}.png"
    Image.fromarray(np.concatenate(sheets)).save(sheet)
    print(sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
