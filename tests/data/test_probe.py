"""Facts of a clip against what its poses show, however few of them are held at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from viewtime.data.creatures.scene import creature_scene
from viewtime.data.curation import probe
from viewtime.data.curation.probe import probe_clip
from viewtime.render_objaverse.animation import Clip, Track
from viewtime.render_objaverse.pose import pose_scene


def test_facts_of_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = creature_scene(np.random.default_rng(2))
    clip = scene.clips[0]
    facts = probe_clip(scene, clip)
    poses = pose_scene(scene, clip, clip.frame_times(16)).positions
    diagonal = np.linalg.norm(np.ptp(poses[0], axis=0))
    assert facts.displacement == pytest.approx(np.linalg.norm(poses - poses[0], axis=-1).max() / diagonal, rel=1e-5)
    assert (facts.frames, facts.duration_s, facts.error) == (int(clip.duration * 24) + 1, clip.duration, "")
    for budget in (1, 3 * scene.vertices, 16 * scene.vertices):
        monkeypatch.setattr(probe, "VERTEX_BUDGET", budget)
        assert probe_clip(scene, clip) == facts
    still = probe_clip(scene, Clip("pose", 1.0, 1.0, []))
    assert (still.frames, still.displacement) == (1, 0.0)
    assert probe_clip(scene, Clip("half", 0.0, 0.5, [])).frames == 13


def test_the_hash_is_of_the_motion_to_a_thousandth() -> None:
    scene = creature_scene(np.random.default_rng(2))
    clip = scene.clips[0]
    facts = probe_clip(scene, clip)

    def changed(by: float) -> str:
        tracks = [replace(track, values=track.values + np.float32(by)) for track in clip.tracks]
        return probe_clip(scene, replace(clip, tracks=tracks)).content

    assert probe_clip(scene, replace(clip, name="other")).content == facts.content
    assert changed(0.05) != facts.content
    assert probe_clip(scene, replace(clip, end=clip.end + 0.01)).content != facts.content
    bad = Track("rotation", "LINEAR", np.array([0]), np.array([0.0]), np.full((1, 1, 4), np.nan, np.float32))
    broken = probe_clip(scene, Clip("broken", 0.0, 1.0, [bad]))
    assert broken.content == "unposed broken"
    assert broken.error
