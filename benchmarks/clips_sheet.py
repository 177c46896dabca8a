"""One sheet of what the model makes of many clips: a row each, its middle frame as the model sees it, and novel views.

    python benchmarks/clips_sheet.py FOLDER_OF_VIDEOS [--weights mini-generalist] [--frames 12] [--out sheet.png]

Clips of one's own making: `python benchmarks/masks.py --assets FOLDER --films fresh` leaves eight in
runs/mask_films/fresh, animals that walk before photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from viewtime.images import contact_sheet
from viewtime.log import set_up_logging
from viewtime.many import videos_in
from viewtime.sample.pipeline import Pipeline

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Sample every clip, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--weights", default="mini-generalist")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "clips_sheet.png")
    options = parser.parse_args()
    set_up_logging()
    clips = videos_in(options.videos)
    if not clips:
        parser.error(f"no video in {options.videos}")
    pipeline = Pipeline.from_pretrained(options.weights, device="cpu")
    rows, names, azimuths = [], [], []
    for name, video in clips.items():
        grid = pipeline(video, frames=options.frames)
        rows.append(grid.rgb()[:, grid.shape[1] // 2])
        names.append(name[:10])
        azimuths = [f"{float(value):.0f}°" for value in grid.cameras.azimuth[:, 0]]
    print(contact_sheet(torch.stack(rows), options.out, row_labels=names, column_labels=azimuths))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
