"""Files as they are in the wild that other loaders get wrong: each loads and moves, or is refused in words."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from viewtime.cameras import regular_orbit
from viewtime.render_objaverse.framing import FOV_Y, camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.gltf_file import AssetError
from viewtime.render_objaverse.orbits import with_distance
from viewtime.render_objaverse.pose import pose_scene

TRICKY = Path(os.environ.get("VIEWTIME_TRICKY", Path(__file__).resolve().parents[3] / "shared" / "tricky"))
INDEX = TRICKY / "INDEX.json"
ROWS = json.loads(INDEX.read_text())["assets"] if INDEX.is_file() else []
SIZE, TIMES = 64, 5
pytestmark = pytest.mark.skipif(not ROWS, reason="no tricky files: set VIEWTIME_TRICKY")


def pictures(renderer: GLRenderer, path: Path, clip: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions [F, N, 3] of a clip (None: of the rest pose), and uint8 [F, H, W, 4] of it from the front right."""
    scene = load_scene(path)
    chosen = None if clip is None else scene.clips[clip]
    posed = pose_scene(scene, chosen, np.zeros(1) if chosen is None else chosen.frame_times(TIMES))
    count, placement = len(posed.positions), normalise(posed.positions)
    cameras = regular_orbit(1, count, elevation=20.0)
    cameras = replace(cameras, azimuth=cameras.azimuth + 30.0)
    rotations = cameras.camera_to_world()[..., :3, :3].numpy()
    cameras = with_distance(cameras, camera_distance(placement.apply(posed.positions), rotations, fit="projected"))
    drawn = renderer.draw(posed, cameras.camera_to_world().numpy(), FOV_Y, placement=placement)
    return posed.positions, drawn[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_it_loads_and_moves_or_is_refused_in_words(row: dict, renderer: GLRenderer) -> None:
    path = TRICKY / row["file"]
    if row["expected"].startswith("not valid"):
        with pytest.raises(AssetError):
            pictures(renderer, path, None)
        return
    try:
        scene = load_scene(path)
    except AssetError as error:
        if "meshopt" in row["what"] or "Draco" in row["what"]:
            pytest.skip(str(error))
        raise
    still, drawn = pictures(renderer, path, None)
    assert np.isfinite(still).all()
    assert (drawn[..., 3] > 127).mean() > 0.01
    moves = []
    for number in range(len(scene.clips)):
        positions, drawn = pictures(renderer, path, number)
        assert np.isfinite(positions).all()
        moves.append(np.abs(positions - positions[0]).max() > 1e-3 * np.ptp(positions[0], axis=0).max())
        if moves[-1]:
            assert (np.abs(drawn.astype(int) - drawn[0]) > 24).any()
    assert any(moves) == row["animated"] or "one keyframe" in row["what"]
