"""FBX and Blender files: curated (through a conversion) and rendered as they are."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_gltf import moving

from viewtime.configs.schema.curate import CurateConfig
from viewtime.configs.schema.render import Framing, Quality, RenderConfig, Workers
from viewtime.data.curation import command as curate_command
from viewtime.files import read_jsonl
from viewtime.grid import FrameGrid
from viewtime.render_objaverse.blender import Blender
from viewtime.render_objaverse.command import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed"),
]

# What an artist would have saved: the imported object with its action, once for each format.
SAVE = """
import sys
import bpy
source, folder = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.render.fps = 30
bpy.ops.import_scene.gltf(filepath=source)
bpy.context.scene.frame_end = 60
bpy.ops.export_scene.fbx(filepath=folder + "/asset.fbx", bake_anim=True)
bpy.ops.wm.save_as_mainfile(filepath=folder + "/asset.blend")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    path = moving(tmp_path_factory.mktemp("glb") / "asset.glb", seconds=2.0)
    subprocess.run([sys.executable, "-c", SAVE, str(path), str(folder)], check=True, capture_output=True)
    return folder


def test_both_are_curated_and_a_repeated_object_is_kept_once(sources: Path, tmp_path: Path) -> None:
    config = CurateConfig(str(sources), str(tmp_path), licence="CC0", workers=1)
    curate_command.run(config)
    rows = {row["converted_from"].rpartition(".")[2]: row for row in read_jsonl(tmp_path / "manifest.jsonl")}
    assert set(rows) == {"fbx", "blend"}
    for row in rows.values():
        assert (tmp_path / row["path"]).suffix == ".glb"
        assert row["decision"] == "keep" or row["stage"] == "duplicate", row["detail"]
        (clip,) = row["clips"]
        assert clip["duration_s"] == pytest.approx(2.0, abs=0.1)
        assert clip["displacement"] > 0.1


def test_the_command_ends_well_after_a_conversion(sources: Path, tmp_path: Path) -> None:
    """Blender, imported into the command's own process, would crash it as it exits."""
    words = ["curate", str(sources), "--out", str(tmp_path), "--licence", "CC0"]
    subprocess.run([sys.executable, "-m", "viewtime.cli", *words], check=True, capture_output=True)
    assert (tmp_path / "manifest.jsonl").is_file()


@pytest.mark.parametrize("suffix", ["fbx", "blend"])
def test_seconds_do_not_depend_on_the_rate_that_the_file_was_made_at(sources: Path, suffix: str) -> None:
    with Blender() as blender:
        blender.open(sources / f"asset.{suffix}")
        (clip,) = blender.clips
        assert (clip["start"], clip["end"]) == (pytest.approx(0, abs=0.04), pytest.approx(2.0, abs=0.04))
        points, _ = blender.points(clip["name"], np.array([0.0, 1.0, 2.0]))
    # It slides by 1 along x and by 0.2 upwards.
    np.testing.assert_allclose(points[1:].mean(axis=1) - points[:-1].mean(axis=1), [[0.5, 0, 0.1]] * 2, atol=0.02)


@pytest.mark.parametrize("suffix", ["fbx", "blend"])
def test_cycles_renders_them_as_it_renders_the_glb(sources: Path, tmp_path: Path, suffix: str) -> None:
    config = RenderConfig(
        sources / f"asset.{suffix}",
        tmp_path,
        engine="cycles",
        views=2,
        frames=3,
        size=32,
        sheets=0,
        framing=Framing(fit="projected", motion_threshold=1.0),
        quality=Quality(samples=4, world="studio"),
        workers=Workers(count=1, timeout=300),
    )
    run(config)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rendered"], report["rejected"], report["failed"]) == (1, 0, 0)
    (folder,) = (tmp_path / "grids").iterdir()
    grid = FrameGrid.load(folder)
    alpha = grid.frames[:, :, 3].numpy()
    assert (alpha.max(axis=(2, 3)) == 1).all()
    # It slides along one axis: the centre of the first view moves by the same step from frame to frame.
    columns = np.arange(32)
    centres = (alpha[0] * columns).sum(axis=(1, 2)) / alpha[0].sum(axis=(1, 2))
    steps = np.diff(centres)
    assert np.abs(steps).min() > 1
    assert steps[0] == pytest.approx(steps[1], abs=1.5)
