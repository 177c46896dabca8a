"""What a card's memory allows: the options of `--memory` for 8, 12, 24 and 80 GB, and what they take."""

from __future__ import annotations

from dataclasses import replace

from viewtime.configs.schema.sample import MemoryOptions, PlanOptions
from viewtime.sample.models.grid_model import ModelTraits

PRESETS = {
    8: MemoryOptions(chunk=1, offload=True, split_guidance=True),
    12: MemoryOptions(chunk=2, offload=True, split_guidance=True),
    24: MemoryOptions(chunk=4),
    80: MemoryOptions(chunk=8),
}
"""Parts that wait on the host, frames encoded at a time, branches of guidance one by one; the largest published model
(sv4d2) at 576 pixels fits: `python benchmarks/gpu_cost.py sv4d2 --card GB`."""

WINDOW_FRAMES = {8: 6}
"""Most frames of a window where the published windows do not fit; more windows, and less consistency over time."""


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
    """Smaller windows of a published model where its own do not fit; what the user chose stays."""
    if card not in WINDOW_FRAMES or plan.window_frames is not None or traits.inside:
        return plan
    return replace(plan, window_frames=min(WINDOW_FRAMES[card], traits.window_frames))
