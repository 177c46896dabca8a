"""`viewtime render`: what it writes, how it resumes, what a kill or a bad file does to it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_gltf import moving, octahedron

from viewtime.configs.schema.render import Framing, RenderConfig, Workers
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.grid import FrameGrid
from viewtime.render_objaverse import pool
from viewtime.render_objaverse.assets import AssetFile, content_of, find_assets, sample_name
from viewtime.render_objaverse.command import run
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.run_lock import alone_in

ROOT = Path(__file__).parents[2]
needs_bpy = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")


@pytest.fixture(scope="module", autouse=True)
def _needs_egl() -> None:
    try:
        GLRenderer(8).close()
    except UserError as error:
        pytest.skip(str(error))


def config(source: Path, out: Path, **changes) -> RenderConfig:
    base = RenderConfig(
        source, out, engine="gl", views=3, frames=4, size=32, sheets=1, workers=Workers(count=1, timeout=120)
    )
    return replace(base, **changes)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of the grids, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "grids").rglob("*"))
        if path.is_file()
    }


def test_limit_counts_clips_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        moving(source / f"{name}.glb", clips=("Walk", "Run", "Jump"))

    def rendered(**changes) -> Counter:
        run(config(source, tmp_path / "out", **changes))
        grids = [json.loads(path.read_text()) for path in (tmp_path / "out" / "grids").glob("*/grid.json")]
        return Counter((grid["provenance"]["asset"], grid["provenance"]["clip"]) for grid in grids)

    first = rendered(limit=2)
    assert sorted(first) == [("a.glb", "Run"), ("a.glb", "Walk")]
    assert sorted(rendered(limit=4)) == [("a.glb", "Jump"), *sorted(first), ("b.glb", "Walk")]
    assert len(rendered()) == 6


def test_one_clip_of_each_asset(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c"):
        moving(source / f"{name}.glb", clips=("Walk", "Run"))
    run(config(source, tmp_path / "out", clips_per_asset=1, limit=2))
    events = read_jsonl(tmp_path / "out" / "events.jsonl")
    assert [(e["asset"], e["clip"]) for e in events if "sample" in e] == [("a.glb", "Walk"), ("b.glb", "Walk")]


def test_good_still_and_damaged_assets_in_one_run_and_again(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    moving(source / "good.glb", clips=("Walk", "Run"))
    moving(source / "still.glb", shift=0.0, seconds=1.0)
    builder = octahedron(radius=0.4)
    builder.animate("Still", 0, "translation", [0, 1], np.zeros((2, 3)))
    builder.write(source / "still.glb")
    octahedron().write(source / "no_clip.glb")
    (source / "cut.glb").write_bytes((source / "good.glb").read_bytes()[:300])
    out = tmp_path / "out"
    written = run(config(source, out))
    report = json.loads((out / "report.json").read_text())
    assert (report["rendered"], report["rejected"], report["failed"]) == (2, 3, 0)
    assert report["reasons"]["rejected"] == {"no_motion": 1, "no_clip": 1, "truncated": 1}
    assert all(path.exists() for path in written)
    names = sorted(path.name for path in (out / "grids").iterdir())
    assert names == sorted(
        sample_name("good.glb", content_of(source / "good.glb"), clip, "static0") for clip in ("Walk", "Run")
    )

    grid = FrameGrid.load(out / "grids" / names[0])
    assert grid.shape == (3, 4, 4, 32, 32)
    assert not grid.known.any()
    assert grid.provenance["times"] == sorted(grid.provenance["times"])
    assert len(grid.provenance["times"]) == 4
    alpha = grid.frames[:, :, 3]
    border = [alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]]
    assert all(float(edge.max()) == 0 for edge in border)  # fits every frame of every view
    assert (alpha.flatten(2).max(dim=2).values == 1).all()

    before, lines = tree(out), len(read_jsonl(out / "events.jsonl"))
    run(config(source, out))
    assert tree(out) == before
    assert len(read_jsonl(out / "events.jsonl")) == lines  # nothing was tried twice
    # A sample that was removed comes back, equal byte for byte.
    victim = out / "grids" / names[0]
    for path in sorted(victim.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    victim.rmdir()
    run(config(source, out))
    assert tree(out) == before
    with pytest.raises(UserError, match="other settings \\(size differ"):
        run(config(source, out, size=40))
    # An older version's settings lack the options that came since: these were at their defaults.
    older = json.loads((out / "settings.json").read_text())
    del older["settings"]["clips_per_asset"], older["settings"]["quality"]["device"]
    (out / "settings.json").write_text(json.dumps(older | {"sha256": "of what it knew"}))
    run(config(source, out))
    with pytest.raises(UserError, match="other settings \\(clips_per_asset differ"):
        run(config(source, out, clips_per_asset=1))


def test_kill_in_the_middle_and_again_equals_an_undisturbed_run(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    clips = tuple(f"clip{number}" for number in range(12))
    moving(source / "a.glb", clips=clips)
    moving(source / "b.glb", clips=clips, seconds=2.0)
    options = {"views": 6, "frames": 6, "size": 96, "sheets": 0}
    run(config(source, tmp_path / "whole", **options))

    out = tmp_path / "killed"
    arguments = ["render", str(source), "--out", str(out), "--engine", "gl", "--workers.count", "1"]
    arguments += ["--views", "6", "--frames", "6", "--size", "96", "--sheets", "0", "--workers.timeout", "120"]
    command = [sys.executable, "-m", "viewtime.cli", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.glob("grids/[!.]*"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    finished = list(out.glob("grids/[!.]*"))
    assert 3 <= len(finished) < 24, "the kill did not come in the middle"
    for folder in finished:
        FrameGrid.load(folder)  # whole, whatever the moment
    stamps = {folder.name: (folder / "grid.json").stat().st_mtime_ns for folder in finished}
    # Its workers died with it: nothing is added after the kill.
    assert len(list(out.glob("grids/[!.]*"))) == len(finished)

    run(config(source, out, **options))
    assert tree(out) == tree(tmp_path / "whole")
    for name, stamp in stamps.items():
        assert (out / "grids" / name / "grid.json").stat().st_mtime_ns == stamp
    assert not list(out.glob("grids/.*"))


def test_a_run_that_renders_nothing_fails_shows_a_reason_and_leaves_the_folder_free(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.glb", clips=("Walk", "Run"))
    with pytest.raises(UserError, match=r"nothing was rendered: 1 assets or samples rejected"):
        run(config(path, tmp_path / "out", clips=["Fly"]))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["reasons"]["rejected"] == {"no_clip": 1}
    assert "it has: Walk, Run" in report["examples"]["no_clip"]
    run(config(path, tmp_path / "out", clips=["Walk"]))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["rendered"], report["rejected"]) == (1, 0)


@pytest.mark.parametrize(
    ("part", "options", "words"),
    [
        ("quality", {"world_strength": float("nan")}, "--quality.world-strength nan; must be 0 to 1e\\+06"),
        ("framing", {"growth": 1.0}, "--framing.growth 1.0; must be 1.0001 to 10"),
        ("framing", {"elevation_min": 40.0}, "--framing.elevation-min 40 lies above --framing.elevation-max 30"),
        ("workers", {"timeout": 0.0}, "--workers.timeout 0.0; must be at least 0.001"),
    ],
)
def test_a_number_that_nothing_can_be_rendered_with_is_refused(part, options, words, tmp_path: Path) -> None:
    moving(tmp_path / "a.glb")
    base = config(tmp_path / "a.glb", tmp_path / "out")
    with pytest.raises(UserError, match=words):
        run(replace(base, **{part: replace(getattr(base, part), **options)}))
    assert not (tmp_path / "out").exists()


@needs_bpy
def test_a_world_that_is_not_there_ends_the_run_at_its_start(tmp_path: Path) -> None:
    base = config(moving(tmp_path / "a.glb"), tmp_path / "out", engine="cycles")
    with pytest.raises(UserError, match="no world 'moon'"):
        run(replace(base, quality=replace(base.quality, world="moon")))


class StuckSlot:
    """A worker that dies whenever it is looked at."""

    def __init__(self, asset: AssetFile | None, sample: str | None) -> None:
        self.asset, self.sample, self.cpus, self.restarts = asset, sample, (0,), 0

    def restart(self) -> None:
        self.restarts += 1
        self.asset = self.sample = None


def test_a_sample_that_kills_its_worker_is_tried_again_and_then_passed_over() -> None:
    asset = AssetFile("a", Path("a.glb"))
    settings = SimpleNamespace(workers=Workers(retries=1, timeout=5))
    attempts, skip, waiting = Counter(), set(), deque()
    for expected in ([], [{"event": "failed", "asset": "a", "sample": "s", "reason": "timeout"}]):
        slot = StuckSlot(asset, "s")
        events = list(pool._lost(slot, "timeout", settings, attempts, skip, waiting))  # type: ignore[arg-type]
        assert [{key: event[key] for key in ("event", "asset", "sample", "reason")} for event in events] == expected
        assert slot.restarts == 1
        assert waiting.popleft() is asset  # the asset's other samples still get their turn
    assert skip == {"s"}


def test_an_asset_that_cannot_be_opened_is_given_up_and_a_pool_that_never_starts_says_so() -> None:
    asset = AssetFile("a", Path("a.glb"))
    settings = SimpleNamespace(workers=Workers(retries=0, timeout=5))
    waiting = deque()
    slot = StuckSlot(asset, None)
    events = list(pool._lost(slot, "crashed", settings, Counter(), set(), waiting))  # type: ignore[arg-type]
    assert events[0]["reason"] == "crashed"
    assert "sample" not in events[0]
    assert not waiting
    with pytest.raises(UserError, match="cannot start"):
        list(pool._lost(StuckSlot(None, None), "timeout", settings, Counter(), set(), waiting))  # type: ignore[arg-type]


def test_stuck_workers_are_killed_for_real(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.glb")
    stuck = config(path, tmp_path / "out", workers=Workers(count=1, timeout=0.01, retries=0))
    with pytest.raises(UserError, match="cannot start"):
        run(stuck)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    path, out = moving(tmp_path / "a.glb"), tmp_path / "out"
    with alone_in(out), pytest.raises(UserError, match="another run"):
        run(config(path, out))


def test_manifest_rows_folders_and_files(tmp_path: Path) -> None:
    moving(tmp_path / "sub.glb")
    (tmp_path / "other.fbx").write_bytes(b"x")
    kept = {"id": "x", "path": "sub.glb", "decision": "keep"}
    clips = [{"name": "Move", "decision": "keep"}, {"name": "Bad", "decision": "reject"}]
    rows = [kept | {"clips": clips}, {"id": "y", "path": "gone.glb", "decision": "reject"}]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert find_assets(manifest, "gl") == [AssetFile("x", tmp_path / "sub.glb", ("Move",))]
    assert [asset.id for asset in find_assets(tmp_path, "gl")] == ["sub.glb"]
    assert [asset.id for asset in find_assets(tmp_path, "cycles")] == ["other.fbx", "sub.glb"]
    with pytest.raises(UserError, match="the gl engine reads"):
        find_assets(tmp_path / "other.fbx", "gl")
    with pytest.raises(UserError, match="no such"):
        find_assets(tmp_path / "nothing", "gl")


def test_two_files_of_one_name_both_get_their_grids(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number, shift in enumerate((1.0, 2.0)):
        (tmp_path / str(number)).mkdir()
        run(config(moving(tmp_path / str(number) / "model.glb", shift=shift), out))
    scales = [FrameGrid.load(folder).provenance["scale"] for folder in (out / "grids").iterdir()]
    assert len(scales) == 2
    assert scales[0] != scales[1]
    rows = [{"id": "x", "path": f"{n}/model.glb", "decision": "keep", "clips": [{"name": "Move", "decision": "keep"}]}
            for n in (0, 1)]  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(config(tmp_path / "manifest.jsonl", tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "report.json").read_text())["rendered"] == 2


def test_files_that_macos_puts_beside_others_are_no_assets(tmp_path: Path) -> None:
    moving(tmp_path / "a.glb")
    (tmp_path / "._a.glb").write_bytes(b"\0\5\x16\7")
    assert [asset.id for asset in find_assets(tmp_path, "gl")] == ["a.glb"]


def test_workers_are_pinned_to_disjoint_cores() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    sets = pool.cpu_sets(0)
    assert sorted(cpu for group in sets for cpu in group) == cpus
    assert len(pool.cpu_sets(1)[0]) == len(cpus)
    assert len(pool.cpu_sets(len(cpus) + 2)) == len(cpus) + 2


@pytest.mark.slow
def test_a_ray_cluster_renders_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c"):
        moving(source / f"{name}.glb")
    (source / "bad.glb").write_bytes(b"")
    run(config(source, tmp_path / "here"))
    run(config(source, tmp_path / "ray", ray="local"))
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")
    assert json.loads((tmp_path / "ray" / "report.json").read_text())["reasons"]["rejected"] == {"empty": 1}


@pytest.mark.slow
@needs_bpy
def test_cycles_through_the_command_with_geometry(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.glb")
    framing = Framing(orbit="both")
    base = config(path, tmp_path / "out", engine="cycles", views=2, frames=2, framing=framing)
    run(replace(base, quality=replace(base.quality, samples=4, world="studio", depth=True, normals=True)))
    grids = sorted((tmp_path / "out" / "grids").iterdir())
    assert len(grids) == 2
    for folder in grids:
        grid = FrameGrid.load(folder)
        assert grid.shape == (2, 2, 4, 32, 32)
        assert grid.provenance["world"] == "studio.exr"
        with np.load(folder / "depth.npz") as arrays:
            covered = arrays["depth"] > 0
        alpha = grid.frames[:, :, 3].numpy() > 0.5
        assert (covered & alpha).sum() / (covered | alpha).sum() > 0.9
