"""A picture of procedural creatures as the training stream draws them: python tools/creature_sheet.py OUT.png"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from viewtime.configs.schema.data import DataConfig, OnTheFly
from viewtime.data.build import build_mixture
from viewtime.data.samples import generator_for
from viewtime.data.sources import Consumer
from viewtime.images import contact_sheet


def main() -> int:
    """Draw creatures, a row each, from regular views."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    view = OnTheFly(elevation_min=12, elevation_max=12, smallest_cover=0.0)
    config = DataConfig(creature_weight=1.0, views=options.views, frames=1, resolution=96, on_the_fly=view)
    source = build_mixture(config).sources[0]
    rows = []
    for row in range(options.rows):
        frames = source.draw(Consumer(0), row, generator_for(options.seed, row)).frames
        assert frames is not None  # a rendered grid has pixels
        rows.append(frames[:, 0].float() / 255)
    labels = [f"{360 * view / options.views:.0f}°" for view in range(options.views)]
    print(contact_sheet(torch.stack(rows), options.out, column_labels=labels))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
