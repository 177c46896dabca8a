"""What a card's memory allows: the options of `--memory` for 8, 12, 24 and 80 GB, and what they take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from viewtime.configs.schema.sample import MemoryOptions, PlanOptions
from viewtime.sample.models.grid_model import ModelTraits

PRESETS = {
    8: MemoryOptions(chunk=1, offload=True, split_guidance=True),
    12: MemoryOptions(chunk=2, offload=True, split_guidance=True),
    24: MemoryOptions(chunk=4),
    80: MemoryOptions(chunk=8),
}
"""Parts that wait on the host, frames encoded at a time, branches of guidance one by one; every published
model at 576 pixels fits: `python benchmarks/gpu_cost.py cards`."""

COUNTED_SIZE = 576  # pixels a side
WINDOW_CELLS = {8: 24}
"""Most cells of a window where the published windows do not fit; more windows, and less consistency over time."""

PEAKS = Path(__file__).with_name("memory_peaks.json")
"""Model -> card -> most bytes at once with its preset, 576 pixels: `python benchmarks/gpu_cost.py cards`."""


def estimate(options: MemoryOptions, traits: ModelTraits, int8: bool = False) -> str | None:
    """One line on what a model will take with a card's preset, as it was counted; None where nothing was.

    Args:
        int8: its network and image encoder are held in 8 bits.
    """
    if options.card is None or replace(options, card=None) != PRESETS[options.card]:
        return None
    peaks = json.loads(PEAKS.read_text()).get(f"{traits.name}, int8" if int8 else traits.name)
    if peaks is None or traits.size > COUNTED_SIZE:
        return None
    size = "" if traits.size == COUNTED_SIZE else f" of {COUNTED_SIZE} px, less for {traits.size}"
    return (
        f"memory: {traits.name} takes {peaks[str(options.card)] / 1e9:.1f} GB at most of {options.card} "
        f"(counted for windows of its own shape{size})"
    )


def fit_card(options: MemoryOptions) -> tuple[MemoryOptions, str | None]:
    """The options of a preset, and one line that says what they are; without a preset as they were given.

    Options given beside a preset that differ from their defaults win.
    """
    if options.card is None:
        return options, None
    chosen, default = PRESETS[options.card], MemoryOptions()
    for name in ("batch_windows", "chunk", "offload", "split_guidance"):
        given = getattr(options, name)
        if given != getattr(default, name):
            chosen = replace(chosen, **{name: given})
    parts = [f"{chosen.chunk} frames encoded at a time"]
    parts += ["parts wait on the host"] if chosen.offload else []
    parts += ["the branches of guidance one by one"] if chosen.split_guidance else []
    return replace(chosen, card=options.card), f"memory: a card of {options.card} GB: {', '.join(parts)}"


def fit_windows(plan: PlanOptions, card: int | None, traits: ModelTraits) -> PlanOptions:
    """Fewer frames in the windows of a published model where its own do not fit; what the user chose stays."""
    if card not in WINDOW_CELLS or plan.window_frames is not None or traits.inside:
        return plan
    return replace(plan, window_frames=min(WINDOW_CELLS[card] // traits.window_views, traits.window_frames))
