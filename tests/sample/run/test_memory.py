"""Memory presets: what each sets, what the user sets beside it, and that the largest model fits."""

import json
from dataclasses import replace

import pytest

from benchmarks.gpu_cost import measure
from benchmarks.gpu_jobs import GRID_MODELS
from viewtime.configs.schema.sample import MemoryOptions, PlanOptions
from viewtime.sample.models.grid_model import ModelTraits
from viewtime.sample.run.memory import PEAKS, PRESETS, estimate, fit_card, fit_windows

OVERHEAD = 1.0  # GB for the driver's context and the libraries' workspaces


def test_a_preset_gives_way_to_what_is_given():
    chosen, note = fit_card(MemoryOptions(card=12, chunk=5))
    assert chosen == MemoryOptions(card=12, chunk=5, offload=True, split_guidance=True)
    assert note is not None
    assert note.startswith("memory: a card of 12 GB: 5 frames encoded at a time, parts wait on the host")
    assert fit_card(MemoryOptions(chunk=3)) == (MemoryOptions(chunk=3), None)


def test_windows_shrink_where_they_must():
    sv4d2, sv4d = (ModelTraits("m", *window, 576, 3, inside=False) for window in ((4, 12), (8, 5)))
    assert fit_windows(PlanOptions(), 8, sv4d2).window_frames == 6
    assert fit_windows(PlanOptions(), 8, sv4d).window_frames == 3
    assert fit_windows(PlanOptions(window_frames=9), 8, sv4d2).window_frames == 9
    assert fit_windows(PlanOptions(), 12, sv4d2).window_frames is None


@pytest.mark.parametrize(
    ("name", "card"),
    [
        pytest.param(name, card, marks=[] if (name, card) == ("sv3d-u", 8) else pytest.mark.slow)
        for name in GRID_MODELS
        for card in PRESETS
    ],
)
def test_every_grid_model_fits_the_card_and_the_estimate_is_what_was_counted(name, card):
    costs, _, _ = measure(name, card)
    peak = {piece: cost.peak / 1e9 for piece, cost in costs.items()}
    assert max(peak.values()) + OVERHEAD < card, peak
    assert json.loads(PEAKS.read_text())[name][str(card)] / 1e9 == pytest.approx(max(peak.values()), rel=0.02)


def test_the_estimate_is_for_the_preset_as_it_is():
    traits = ModelTraits("sv4d2", 4, 12, 576, 3, inside=False)
    chosen, _ = fit_card(MemoryOptions(card=12))
    line = estimate(chosen, traits)
    assert line is not None
    gigabytes = json.loads(PEAKS.read_text())["sv4d2"]["12"] / 1e9
    assert f"sv4d2 takes {gigabytes:.1f} GB at most of 12" in line
    assert estimate(fit_card(MemoryOptions(card=12, chunk=7))[0], traits) is None
    assert estimate(MemoryOptions(), traits) is None
    assert estimate(chosen, replace(traits, size=1024)) is None
    assert "less for 256" in str(estimate(chosen, replace(traits, size=256)))
    assert estimate(chosen, replace(traits, name="mini")) is None
    halved = json.loads(PEAKS.read_text())["sv4d2, int8"]["12"] / 1e9
    assert halved < gigabytes - 1
    assert f"sv4d2 takes {halved:.1f} GB at most of 12" in str(estimate(chosen, traits, int8=True))


def test_every_published_model_and_card_has_an_estimate():
    peaks = json.loads(PEAKS.read_text())
    assert set(peaks) == {f"{name}{held}" for name in GRID_MODELS for held in ("", ", int8")}
    for cards in peaks.values():
        assert list(cards) == [str(card) for card in PRESETS]
        assert all(1e9 < cards[str(card)] < card * 1e9 for card in PRESETS)
