"""Memory presets: what each sets, what the user sets beside it, and that the largest model fits."""

import pytest

from benchmarks.gpu_cost import measure
from viewtime.configs.schema.sample import MemoryOptions, PlanOptions
from viewtime.sample.models.grid_model import ModelTraits
from viewtime.sample.run.memory import PRESETS, fit_card, fit_windows

OVERHEAD = 1.0  # GB for the driver's context and the libraries' workspaces


def test_a_preset_gives_way_to_what_is_given():
    chosen, note = fit_card(MemoryOptions(card=12, chunk=5))
    assert chosen == MemoryOptions(card=12, chunk=5, offload=True, split_guidance=True)
    assert note is not None
    assert note.startswith("memory: a card of 12 GB: 5 frames encoded at a time, parts wait on the host")
    assert fit_card(MemoryOptions(chunk=3)) == (MemoryOptions(chunk=3), None)


def test_windows_shrink_where_they_must():
    sv4d2, sv4d = (ModelTraits("m", 4, frames, 576, 3, inside=False) for frames in (12, 5))
    assert fit_windows(PlanOptions(), 8, sv4d2).window_frames == 6
    assert fit_windows(PlanOptions(), 8, sv4d).window_frames == 5
    assert fit_windows(PlanOptions(window_frames=9), 8, sv4d2).window_frames == 9
    assert fit_windows(PlanOptions(), 12, sv4d2).window_frames is None


@pytest.mark.slow
@pytest.mark.parametrize("card", PRESETS)
@pytest.mark.parametrize("name", ["sv4d", "sv4d2", "sv4d2-8views"])
def test_every_grid_model_fits_the_card(name, card):
    costs, _, _ = measure(name, card)
    peak = {piece: cost.peak / 1e9 for piece, cost in costs.items()}
    assert max(peak.values()) + OVERHEAD < card, peak
