"""Files as they are in the wild that other loaders get wrong: each loads and moves, or is refused in words."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from viewtime.cameras import regular_orbit
from viewtime.render_objaverse.blender import Blender, CyclesQuality, choose_worlds, read_row
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
VALID = [row for row in ROWS if not row["expected"].startswith("not valid")]
pytestmark = pytest.mark.skipif(not ROWS, reason="no tricky files: set VIEWTIME_TRICKY")


@pytest.fixture(scope="module")
def blender() -> Iterator[Blender]:
    with Blender(threads=2) as made:
        yield made


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


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
@pytest.mark.parametrize("row", VALID, ids=lambda row: row["file"])
def test_cycles_shows_the_same_outline(row: dict, tmp_path: Path, renderer: GLRenderer, blender: Blender) -> None:
    scene = load_scene(TRICKY / row["file"])
    clip = scene.clips[-1] if scene.clips else None
    times = np.zeros(1) if clip is None else clip.frame_times(3)[1:2]
    posed = pose_scene(scene, clip, times)
    placement = normalise(posed.positions)
    cameras = regular_orbit(2, 1, elevation=20.0)
    cameras = replace(cameras, azimuth=cameras.azimuth + 30.0)
    rotations = cameras.camera_to_world()[..., :3, :3].numpy()
    cameras = with_distance(cameras, camera_distance(placement.apply(posed.positions), rotations, fit="projected"))
    drawn = renderer.draw(posed, cameras.camera_to_world().numpy(), FOV_Y, placement=placement)
    blender.open_posed(posed)
    name, world = None if clip is None else clip.name, choose_worlds(blender, "studio")[0]
    quality = CyclesQuality(samples=16, denoise=False)
    # Leaves cut out by a mask are smaller than a pixel: GL asks a mipmap of it, Cycles 16 places of its finest level.
    differs = 0.2 if "alpha_mask" in row["file"] else 0.06
    blender.render(tmp_path, name, times, cameras, placement, drawn.shape[2], world, quality=quality)
    for view in range(2):
        ours, theirs = drawn[view, 0, ..., 3] > 127, read_row(tmp_path, view, 1)[0, ..., 3] > 127
        assert (ours ^ theirs).sum() <= differs * (ours | theirs).sum()
