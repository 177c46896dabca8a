"""FBX and Blender files: curated (through a conversion) and rendered as they are."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_gltf import moving

from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.configs.schema.render import Framing, Quality, RenderConfig, Workers
from viewtime.data.curation import command as curate_command
from viewtime.data.curation.convert import WORKER
from viewtime.files import read_jsonl
from viewtime.grid import FrameGrid
from viewtime.render_objaverse.blender import Blender, BlenderError, CyclesQuality, choose_worlds, read_row
from viewtime.render_objaverse.command import run
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.orbits import static_orbit
from viewtime.render_objaverse.pose import Placement, pose_scene

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


# Each kind of motion that an artist's file may hold, in a .blend of its own.
SCENES = """
import os
import sys
import bpy
from pathlib import Path
folder = Path(sys.argv[1])
def start():
    bpy.ops.wm.read_factory_settings(use_empty=True)
def cube(name, x):
    bpy.ops.mesh.primitive_cube_add(size=1, location=(x, 0, 0))
    bpy.context.object.name = name
    return bpy.context.object
def key(item, path, *keys):
    for frame, value in keys:
        setattr(item, path, value)
        item.keyframe_insert(path, frame=frame)
def save(name):
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / (name + ".blend")))
start()
key(cube("A", 0), "location", (1, (0, 0, 0)), (24, (0, 0, 2)))
key(cube("B", 3), "rotation_euler", (1, (0, 0, 0)), (48, (0, 0, 3)))
save("two_objects")
bpy.ops.export_scene.fbx(filepath=str(folder / "two_objects.fbx"), bake_anim_use_all_actions=False,
                         bake_anim_use_nla_strips=False)
start()
hero = cube("Hero", 0)
key(cube("Mill", 3), "rotation_euler", (1, (0, 0, 0)), (40, (0, 0, 6)))
for number, name in enumerate(["Walk", "Run", "Jump"]):
    hero.animation_data_clear()
    key(hero, "location", (1, (0, 0, 0)), (20 + 10 * number, (0, number + 1, 1)))
    hero.animation_data.action.name = name
    hero.animation_data.action.use_fake_user = True
save("three_actions")
start()
hero = cube("Hero", 0)
for number, name in enumerate(["Walk", "Run"]):
    key(hero, "location", (1, (0, 0, 0)), (20 + 10 * number, (0, number + 1, 1)))
    action = hero.animation_data.action
    action.name, hero.animation_data.action = name, None
    track = hero.animation_data.nla_tracks.new()
    track.name = name
    track.strips.new(name, 1, action)
save("tracks")
bpy.ops.export_scene.fbx(filepath=str(folder / "takes.fbx"), bake_anim_use_all_actions=False)
start()
handle = bpy.data.objects.new("Handle", None)
bpy.context.scene.collection.objects.link(handle)
key(handle, "location", (1, (0, 0, 0)), (30, (0, 0, 3)))
cube("Follower", 0).constraints.new("COPY_LOCATION").target = handle
save("constraint")
start()
driver = cube("Driven", 0).driver_add("location", 2).driver
driver.type, driver.expression, bpy.context.scene.frame_end = "SCRIPTED", "frame / 50", 50
save("driver")
start()
item = cube("Evil", 0)
key(item, "location", (1, (0, 0, 0)), (30, (1, 0, 0)))
item["evil"] = 0.0
item.driver_add('["evil"]').driver.expression = f"__import__('os').system('touch {folder}/PWNED_driver') + 1"
text = bpy.data.texts.new("evil.py")
text.write(f"open('{folder}/PWNED_text', 'w').write('x')")
text.use_module = True
scene = bpy.context.scene
scene.use_nodes = True
layers = scene.node_tree.nodes.new("CompositorNodeRLayers")
output = scene.node_tree.nodes.new("CompositorNodeOutputFile")
output.base_path = str(folder / "PWNED_compositor")
scene.node_tree.links.new(layers.outputs[0], output.inputs[0])
scene.render.use_crop_to_border = scene.render.use_border = True
scene.render.resolution_percentage, scene.cycles.film_exposure = 50, 0.0
save("evil")
os._exit(0)  # Blender would wait for ever for its driver
"""
# What each file must give: clip -> how far (at least) each object's surface moves in it.
EXPECTED = {
    "two_objects.blend": {"scene": 2},
    "two_objects.fbx": {"Scene": 2},
    "three_actions.blend": {"scene": 2, "Walk": 2, "Run": 2},
    "tracks.blend": {"Walk": 1, "Run": 1},
    "takes.fbx": {"Walk": 1, "Run": 1},
    "constraint.blend": {"HandleAction": 1},
    "driver.blend": {"scene": 1},
    "evil.blend": {"EvilAction": 1},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    subprocess.run([sys.executable, "-c", SCENES, str(folder)], check=True, capture_output=True)
    return folder


def moving_pieces(points: np.ndarray) -> int:
    """How many of the scene's cubes (8 vertices or more each, told apart by their order) move: [F, N, 3]."""
    moved = np.linalg.norm(points - points[:1], axis=-1).max(axis=0)
    pieces = moved.reshape(-1, 8) if len(moved) % 24 else moved.reshape(-1, 24)
    return int((pieces.max(axis=1) > 0.5).sum())


def test_every_clip_moves_all_that_belongs_to_it(scenes: Path) -> None:
    found = {}
    with Blender() as blender:
        for name in EXPECTED:
            blender.open(scenes / name)
            found[name] = {}
            for clip in blender.clips:
                points, _ = blender.points(clip["name"], np.linspace(clip["start"], clip["end"], 5))
                found[name][clip["name"].rpartition("|")[2]] = moving_pieces(points)
    assert {name: set(clips) for name, clips in found.items()} == {name: set(e) for name, e in EXPECTED.items()}
    assert found == EXPECTED
    assert not list(scenes.glob("PWNED*"))


def test_curation_converts_the_same_clips(scenes: Path, tmp_path: Path) -> None:
    config = CurateConfig(
        str(scenes), str(tmp_path), licence="CC0", workers=2, limits=CurationLimits(min_pixel_motion=0)
    )
    curate_command.run(config)
    rows = {Path(row["converted_from"]).name: row for row in read_jsonl(tmp_path / "manifest.jsonl")}
    assert set(rows) == set(EXPECTED)
    for name, row in rows.items():
        scene = load_scene(tmp_path / row["path"])
        found = {}
        for clip in scene.clips:
            posed = pose_scene(scene, clip, clip.frame_times(5))
            ends = np.cumsum([0, *(len(scene.parts[index].positions) for index in posed.parts)])
            moved = np.linalg.norm(posed.positions - posed.positions[:1], axis=-1).max(axis=0)
            found[clip.name.rpartition("|")[2]] = sum(moved[a:b].max() > 0.5 for a, b in pairwise(ends))
        assert found == EXPECTED[name], name
    assert not list(scenes.glob("PWNED*"))


def test_a_conversion_takes_its_paths_from_where_it_runs(scenes: Path, tmp_path: Path) -> None:
    """Blender takes relative paths from $PWD, which a program that changes folders leaves as it was."""
    (tmp_path / "in.blend").write_bytes((scenes / "driver.blend").read_bytes())
    command = [sys.executable, str(WORKER), "in.blend", "out.glb"]
    environment = {**os.environ, "PWD": str(scenes)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.blend", "out.glb"]


def test_a_hostile_file_is_rendered_as_any_other_and_writes_nothing(scenes: Path, tmp_path: Path) -> None:
    with Blender() as blender:
        blender.open(scenes / "evil.blend")
        (clip,) = blender.clips
        world = choose_worlds(blender, "studio")[0]
        cameras = static_orbit(1, 1, np.random.default_rng(0), distance=4.0)
        times = np.array([clip["start"]])
        quality = CyclesQuality(samples=4, denoise=False)
        for depth in (False, True):
            blender.render(tmp_path, clip["name"], times, cameras, Placement(), 24, world, quality=quality, depth=depth)
            (image,) = read_row(tmp_path, 0, 1)
            assert image.shape == (24, 24, 4)
            assert image[12, 12, 3] == 255
            assert image[12, 12, :3].max() > 20  # its own exposure of 0 would be black
    assert not list(scenes.glob("PWNED*"))


def test_a_killed_curation_takes_its_blender_along(scenes: Path, tmp_path: Path) -> None:
    words = ["curate", str(scenes), "--out", str(tmp_path / "out"), "--licence", "CC0"]
    run = subprocess.Popen([sys.executable, "-m", "viewtime.cli", *words], stderr=subprocess.DEVNULL)

    def workers() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = path.read_bytes()
                if b"blender_convert.py" in command and str(scenes).encode() in command:
                    found.append(int(path.parent.name))
        return found

    try:
        until = time.monotonic() + 120
        while not workers() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert workers(), "no conversion was seen"
    finally:
        run.kill()
        run.wait()
    until = time.monotonic() + 10
    while workers() and time.monotonic() < until:
        time.sleep(0.05)
    assert not workers()


def bomb(width: int, height: int) -> bytes:
    """The head of a PNG that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def test_an_image_of_four_billion_pixels_is_refused_by_its_header(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(65535, 65535))
    pack = f"""
import bpy
bpy.ops.wm.open_mainfile(filepath={str(scenes / "two_objects.blend")!r})
image = bpy.data.images.new("bomb", 1, 1)
image.source = "FILE"
image.use_fake_user = True
image.filepath = {str(tmp_path / "bomb.png")!r}
bpy.ops.wm.save_as_mainfile(filepath={str(tmp_path / "bomb.blend")!r})
"""
    subprocess.run([sys.executable, "-c", pack], check=True, capture_output=True)
    with Blender() as blender, pytest.raises(BlenderError, match="65535 x 65535"):
        blender.open(tmp_path / "bomb.blend")


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
