"""Curation: every filter with its reason, hostile files in bounded time and memory, resuming, duplicates."""

import json
import os
import time
from pathlib import Path

import pytest
from gltf_builder import box_document, write_bad_files, write_box, write_glb

from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.data.curation import command, guard
from viewtime.data.curation.guard import GuardedError, GuardedWorker
from viewtime.data.curation.heldout import heldout_ids, heldout_set_of
from viewtime.data.curation.licences import family, is_allowed
from viewtime.data.live.asset_list import list_assets
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.run_lock import alone_in

ASSETS = Path(os.environ.get("VIEWTIME_ASSETS", Path(__file__).resolve().parents[3] / "shared" / "assets"))
GEOMETRY_ONLY = CurationLimits(min_pixel_motion=0.0)


def has_gl() -> bool:
    from viewtime.render_objaverse.gl import GLRenderer

    try:
        GLRenderer(16).close()
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("CC0-1.0", "CC0"),
        ("cc0", "CC0"),
        ("CC-BY-4.0", "CC-BY"),
        ("CC-BY-4.0 (mesh CC0)", "CC-BY"),
        ("Creative Commons BY-SA 3.0", "CC-BY-SA"),
        ("by", "CC-BY"),
        ("by-nc-sa", "CC-BY-NC-SA"),
        ("CC BY-NC 4.0", "CC-BY-NC"),
        ("MIT", "MIT"),
        ("Apache-2.0", "APACHE"),
        ("Apache License 2.0", "APACHE"),
        ("MIT License", "MIT"),
        ("BSD-3-Clause", "BSD"),
        ("BSD-3-Clause-No-Military-License", "BSD-3-CLAUSE-NO-MILITARY"),
        ("", None),
        (None, None),
        ("unknown", None),
    ],
)
def test_licences_are_read_in_any_spelling(written, expected):
    assert family(written) == expected


def test_the_allow_list_goes_by_family_and_never_lets_a_restriction_through():
    allowed = ("CC0", "CC-BY")
    assert is_allowed("CC-BY-4.0", allowed)
    assert not is_allowed("CC-BY-NC-4.0", allowed)
    assert not is_allowed("CC-BY-ND-4.0", allowed)
    assert not is_allowed(None, allowed)
    assert is_allowed("mit", ("MIT",))


def test_the_published_test_sets_ship():
    assert len(heldout_ids()) == 27
    assert heldout_set_of("ba7b382c918b40e6b07011da4ff3ebc0.glb") == "consistent4d_test"
    assert heldout_set_of("02074af3625a46a3802e517f48b73e35") == "objaversedy_test"
    assert heldout_set_of("0" * 32) is None


def rows_of(output: Path) -> dict[str, dict]:
    return {row["id"]: row for row in read_jsonl(output / "manifest.jsonl")}


def test_every_planted_file_is_rejected_for_its_own_reason_and_stops_nothing(tmp_path):
    expected = write_bad_files(tmp_path / "assets")
    held = "edec2c2e1fd74742ad0288a93301f4a1"
    write_box(tmp_path / "assets" / f"{held}.glb", shift=2.0)
    write_box(tmp_path / "assets" / "forbidden.glb", shift=3.0)
    write_box(tmp_path / "assets" / "unlicensed.glb", shift=4.0)
    write_box(tmp_path / "assets" / "z_good.glb", shift=0.5, turn=10)
    table = dict.fromkeys([f"{name}.glb" for name in [*expected, held, "copy_of_whole", "z_good"]], "CC0-1.0")
    (tmp_path / "assets" / "licences.json").write_text(json.dumps(table | {"forbidden.glb": "CC-BY-NC-4.0"}))
    config = CurateConfig(str(tmp_path / "assets"), out=str(tmp_path / "out"), limits=GEOMETRY_ONLY)
    command.run(config)
    rows = rows_of(tmp_path / "out")
    expected |= {
        held: ("heldout", "objaversedy_test"),
        "forbidden": ("licence", "not_allowed"),
        "unlicensed": ("licence", "unknown_licence"),
    }
    assert {name: (rows[name]["stage"], rows[name]["reason"]) for name in expected} == expected
    assert all(rows[name]["detail"] for name in expected)
    assert sorted(name for name, row in rows.items() if row["decision"] == "keep") == ["copy_of_whole", "z_good"]
    assert {row["id"] for row in rows.values()} == {path.stem for path in (tmp_path / "assets").glob("*.glb")}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["assets"], summary["keep"], summary["failed"]) == (len(rows), 2, 0)
    assert [asset.id for asset in list_assets(str(tmp_path / "out"))] == ["copy_of_whole", "z_good"]
    assert all(asset.path.is_file() for asset in list_assets(str(tmp_path / "out")))


def test_a_file_above_the_size_limit_is_never_opened(tmp_path):
    path = tmp_path / "assets" / "sparse.glb"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(8 * 10**9)  # a sparse file: 8 GB long, no bytes on disk
    config = CurateConfig(str(path.parent), str(tmp_path / "out"), licence="CC0", workers=1, limits=GEOMETRY_ONLY)
    command.run(config)
    row = rows_of(tmp_path / "out")["sparse"]
    assert (row["stage"], row["reason"]) == ("size", "file_too_large")
    assert "8000.0 MB; limit 200 MB" in row["detail"]


def test_triangle_limit_and_frame_limit_are_settings(tmp_path):
    write_box(tmp_path / "assets" / "box.glb")
    for name, limits, reason in (
        ("a", CurationLimits(min_pixel_motion=0.0, max_triangles=11), "too_many_triangles"),
        ("b", CurationLimits(min_pixel_motion=0.0, min_frames=50), "few_frames"),
        ("c", CurationLimits(min_pixel_motion=0.0, min_displacement=3.0), "little_motion"),
        ("d", CurationLimits(min_pixel_motion=0.0, min_frames=49, max_triangles=12), ""),
    ):
        command.run(CurateConfig(str(tmp_path / "assets"), str(tmp_path / name), licence="CC0", limits=limits))
        assert rows_of(tmp_path / name)["box"]["reason"] == reason


def test_a_killed_run_continues_to_the_same_manifest(tmp_path):
    for number in range(4):
        write_box(tmp_path / "assets" / f"box{number}.glb", shift=1 + number)
    write_box(tmp_path / "assets" / "box9.glb", shift=1)
    config = CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0", limits=GEOMETRY_ONLY)
    command.run(config)
    whole = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    # A kill in the middle of writing the third row.
    (tmp_path / "out" / "manifest.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    command.run(config)
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == whole
    assert rows_of(tmp_path / "out")["box9"]["detail"] == "same geometry, look and motion as box0"
    other = CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0")
    with pytest.raises(UserError, match="another source, licence or limits"):
        command.run(other)


def test_two_curations_do_not_share_a_folder_and_conversions_of_killed_ones_go(tmp_path):
    write_box(tmp_path / "assets" / "box.glb")
    out = tmp_path / "out"
    config = CurateConfig(str(tmp_path / "assets"), str(out), licence="CC0", limits=GEOMETRY_ONLY)
    with alone_in(out), pytest.raises(UserError, match="another run is writing to"):
        command.run(config)
    half, whole = (out / "converted" / name for name in (".a.blend-0123.99.partial.glb", "a.blend-0123.glb"))
    half.parent.mkdir()
    half.write_bytes(b"half")
    whole.write_bytes(b"whole")
    command.run(config)
    assert (half.exists(), whole.exists()) == (False, True)


def test_one_body_in_another_colour_is_another_asset(tmp_path):
    for name, colour in (("a", (1, 0, 0)), ("b", (0, 0, 1)), ("c", (1, 0, 0))):
        write_box(tmp_path / "assets" / f"{name}.glb", colour=colour)
    # Bytes that differ, so that only the content can tell that c is a.
    (tmp_path / "assets" / "c.glb").write_bytes((tmp_path / "assets" / "c.glb").read_bytes().replace(b"box", b"BOX"))
    command.run(CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0", limits=GEOMETRY_ONLY))
    assert [row["reason"] for row in rows_of(tmp_path / "out").values()] == ["", "", "same_content"]


def test_repeated_clips_of_one_asset_count_once(tmp_path):
    write_box(tmp_path / "assets" / "box.glb", clips=("Open", "Armature|Open"))
    command.run(CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0", limits=GEOMETRY_ONLY))
    clips = rows_of(tmp_path / "out")["box"]["clips"]
    assert [(clip["decision"], clip["reason"]) for clip in clips] == [("keep", ""), ("reject", "duplicate of Open")]
    assert list_assets(str(tmp_path / "out"))[0].clips == ("Open",)


def test_geometric_motion_is_the_largest_vertex_displacement(tmp_path):
    """The box slides by 1 without turning; its diagonal is 2 · sqrt(.5² + .3² + .2²)."""
    write_box(tmp_path / "assets" / "box.glb", shift=1.0, turn=0.0, seconds=1.5)
    command.run(CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0", limits=GEOMETRY_ONLY))
    clip = rows_of(tmp_path / "out")["box"]["clips"][0]
    assert clip["displacement"] == pytest.approx(1 / (2 * 0.38**0.5), rel=1e-4)
    assert clip["frames"] == 37  # 1.5 s at 24 a second, both ends


def test_pixel_motion_sees_what_geometry_cannot(tmp_path):
    """A flat box that spins by a right angle about its own axis moves its corners; a still camera must see it too."""
    if not has_gl():
        pytest.skip("no OpenGL through EGL on this machine")
    from viewtime.data.curation.pixel_motion import pixel_motion
    from viewtime.render_objaverse.gl import GLRenderer
    from viewtime.render_objaverse.gltf import load_scene

    values = {}
    with GLRenderer(64) as renderer:
        for name, shift, turn in (("still", 0.0, 0.0), ("little", 0.05, 0.0), ("far", 2.0, 0.0)):
            scene = load_scene(write_box(tmp_path / f"{name}.glb", shift=shift, turn=turn))
            values[name] = pixel_motion(renderer, scene, scene.clips[0])
    assert values["still"] < 1e-3
    assert 0.01 < values["little"] < values["far"]
    assert values["far"] > 0.2


def loop_for_ever(path: str) -> int:
    while True:
        pass


def wait_for_ever(path: str) -> int:
    while True:
        time.sleep(0.01)


def eat_memory(path: str) -> int:
    return len(bytearray(3 << 30))


def die(path: str) -> int:
    os.abort()


def answer(path: str) -> str:
    if path == "bad":
        raise ValueError("bad file")
    return path * 2


def test_a_guarded_worker_outlives_what_it_runs():
    worker = GuardedWorker(answer, timeout_s=60)
    assert worker.call("ab") == "abab"
    with pytest.raises(GuardedError, match="bad file") as caught:
        worker.call("bad")
    assert caught.value.reason == "unreadable"
    assert worker.call("cd") == "cdcd"
    worker.close()


RUNAWAYS = [(loop_for_ever, "timeout"), (wait_for_ever, "timeout"), (eat_memory, "memory"), (die, "crash")]


@pytest.mark.parametrize(("function", "reason"), RUNAWAYS)
def test_runaway_reading_ends_with_its_reason_and_the_next_call_works(function, reason, monkeypatch):
    monkeypatch.setattr(guard, "WALL_PATIENCE", 1 if function is wait_for_ever else 100)
    worker = GuardedWorker(function, memory_gb=2.0, timeout_s=3 if reason == "timeout" else 60)
    for _ in range(2):
        with pytest.raises(GuardedError) as caught:
            worker.call("x")
        assert caught.value.reason == reason
    worker.close()


def test_a_folder_without_assets_or_licences_says_so(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        command.run(CurateConfig(str(tmp_path / "nowhere"), str(tmp_path / "out")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no 3D file in .*\.glb"):
        command.run(CurateConfig(str(tmp_path / "empty"), str(tmp_path / "out")))
    write_glb(tmp_path / "assets" / "box.glb", *box_document(tmp_path))
    (tmp_path / "table.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="must hold"):
        command.run(
            CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence_table=str(tmp_path / "table.json"))
        )


@pytest.mark.skipif(not (ASSETS / "INDEX.json").is_file(), reason="no real assets: set VIEWTIME_ASSETS")
@pytest.mark.parametrize("limits", [GEOMETRY_ONLY, pytest.param(CurationLimits(), marks=pytest.mark.slow)])
def test_curation_agrees_with_every_row_of_the_real_assets(tmp_path, limits):
    if limits.min_pixel_motion > 0 and not has_gl():
        pytest.skip("no OpenGL through EGL on this machine")
    command.run(CurateConfig(str(ASSETS), str(tmp_path / "out"), limits=limits))
    rows = rows_of(tmp_path / "out")
    expected = {
        row["file"].removesuffix(".glb"): row for row in json.loads((ASSETS / "INDEX.json").read_text())["assets"]
    }
    assert {id: row["decision"] for id, row in rows.items()} == {id: row["expect"] for id, row in expected.items()}
    reasons = {
        "reject_static_tree": ("frames", "no_animation"),
        "reject_tpose_one_frame": ("frames", "few_frames"),
        "reject_tiny_motion_idle": ("motion", "little_motion"),
        "bad_truncated_half": ("readable", "truncated"),
        "bad_empty": ("readable", "empty"),
        "bad_nan_positions": ("readable", "non_finite"),
    }
    assert {id: (rows[id]["stage"], rows[id]["reason"]) for id in reasons} == reasons
    for id, row in expected.items():
        if row["expect"] == "keep":
            assert rows[id]["triangles"] == row["triangles"]
            assert rows[id]["sha256"] == row["sha256"]
