"""Worlds that light Cycles: a folder of .hdr and .exr files, one drawn for each clip and named in its record."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from small_gltf import moving

from viewtime.configs.schema.render import RenderConfig, Workers
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.render_objaverse.blender import Blender, choose_worlds
from viewtime.render_objaverse.command import run

needs_bpy = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")


def write_hdr(path: Path, colour: tuple[int, int, int], exponent: int = 128) -> None:
    """A world of one colour in Radiance's format: mantissas of 8 bits, an exponent shared by the three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = 8, 16
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    # Lines of fewer than 8 pixels or that do not begin with 2, 2 are not run-length encoded.
    path.write_bytes(head + bytes((*colour, exponent)) * (width * height))


def test_worlds_of_a_folder_are_taken_in_order_and_others_left(tmp_path: Path) -> None:
    """No Blender is asked for a folder's files."""
    for name in ("b.hdr", "a.EXR", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in choose_worlds(cast(Blender, None), str(tmp_path))] == ["a.EXR", "b.hdr"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no .exr or .hdr"):
        choose_worlds(cast(Blender, None), str(tmp_path / "empty"))


@pytest.mark.slow
@needs_bpy
def test_each_clip_is_lit_by_a_world_of_the_folder_that_its_record_names(tmp_path: Path) -> None:
    """A red and a blue world: what the body looks like says which of them lit it, and so does its grid."""
    write_hdr(tmp_path / "worlds" / "red.hdr", (200, 20, 20))
    write_hdr(tmp_path / "worlds" / "blue.hdr", (20, 20, 200))
    (tmp_path / "in").mkdir()
    for name in "abcdef":
        moving(tmp_path / "in" / f"{name}.glb")
    base = RenderConfig(
        tmp_path / "in", tmp_path / "out", engine="cycles", views=1, frames=2, size=32, sheets=0,
        workers=Workers(count=1, timeout=120),
    )  # fmt: skip
    base = replace(base, quality=replace(base.quality, samples=4, world=str(tmp_path / "worlds")))
    run(base)
    used, redness = {}, {"red.hdr": [], "blue.hdr": []}
    for folder in sorted((tmp_path / "out" / "grids").iterdir()):
        grid = FrameGrid.load(folder)
        red, _, blue = (grid.frames[0, 0, :3] * grid.frames[0, 0, 3:]).mean(dim=(1, 2)).tolist()
        used[folder.name] = grid.provenance["world"]
        redness[used[folder.name]].append(red / blue)
    assert set(used.values()) == {"red.hdr", "blue.hdr"}
    # The body has a colour of its own: what counts is how much redder it is under one world than under the other.
    assert min(redness["red.hdr"]) > 2 * max(redness["blue.hdr"])
    run(replace(base, out=tmp_path / "again"))
    again = {
        folder.name: FrameGrid.load(folder).provenance["world"] for folder in (tmp_path / "again" / "grids").iterdir()
    }
    assert again == used


@pytest.mark.slow
@needs_bpy
def test_a_world_that_cannot_be_read_lights_nothing(tmp_path: Path) -> None:
    (tmp_path / "worlds").mkdir()
    (tmp_path / "worlds" / "a.hdr").write_bytes(b"no picture")
    moving(tmp_path / "a.glb")
    base = RenderConfig(tmp_path / "a.glb", tmp_path / "out", views=1, frames=2, size=32, workers=Workers(count=1))
    with pytest.raises(UserError, match="1 samples failed"):
        run(replace(base, quality=replace(base.quality, samples=1, world=str(tmp_path / "worlds"))))
    assert "a.hdr cannot be read" in (tmp_path / "out" / "report.json").read_text()
    assert not list((tmp_path / "out" / "grids").glob("*/grid.json"))
