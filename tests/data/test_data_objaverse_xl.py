"""The objaverse-xl: source: a stand-in table in the annotations' layout; the package's own download is replaced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from gltf_builder import write_box

from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.data.curation import command
from viewtime.data.curation.licences import family
from viewtime.errors import UserError
from viewtime.files import read_jsonl

pandas = pytest.importorskip("pandas")
pytest.importorskip("objaverse")
HELD_OUT = "ba7b382c918b40e6b07011da4ff3ebc0"
GITHUB = "https://github.com/ann/zoo/blob/0123abcd/models"
SKETCHFAB = "https://sketchfab.com/3d-models"
BY = "Creative Commons - Attribution"
ROWS = [
    (f"{SKETCHFAB}/moving", "sketchfab", BY, "glb"),
    (f"{GITHUB}/fox.glb", "github", "MIT License", "glb"),
    (f"{GITHUB}/owl.gltf", "github", "Apache License 2.0", "gltf"),
    (f"{GITHUB}/wall.obj", "github", "MIT License", "obj"),
    (f"{GITHUB}/car.glb", "github", "GNU General Public License v3.0", "glb"),
    (f"{GITHUB}/no_licence.glb", "github", None, "glb"),
    (f"{SKETCHFAB}/sold", "sketchfab", "Creative Commons - Attribution - NonCommercial", "glb"),
    (f"{SKETCHFAB}/{HELD_OUT}", "sketchfab", BY, "glb"),
    (f"{GITHUB}/gone.glb", "github", "MIT License", "glb"),
]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The table as parquet, and what was downloaded from it."""
    columns = ("fileIdentifier", "source", "license", "fileType")
    rows = [dict(zip(columns, row)) for row in ROWS]
    for row in rows:
        row["sha256"] = hashlib.sha256(row["fileIdentifier"].encode()).hexdigest()
        row["metadata"] = json.dumps({"username": "Bob"}) if row["source"] == "sketchfab" else "{}"
    pandas.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    downloaded = []
    import objaverse.xl

    def download(objects, download_dir, processes, **options):
        (row,) = objects.to_dict("records")
        name = row["fileIdentifier"]
        downloaded.append(name)
        assert options == {"save_repo_format": "files"}
        path = tmp_path / "files" / f"{Path(name).stem}.glb"
        if "gone" not in name:
            write_box(path, shift=1.0 + 0.1 * len(downloaded))
        return {name: str(path)} if path.is_file() else {}

    monkeypatch.setattr(objaverse.xl, "download_objects", download)
    return tmp_path / "table.parquet", downloaded


def curate(tmp_path, table, **options):
    limits = CurationLimits(min_pixel_motion=0.0)
    command.run(CurateConfig(f"objaverse-xl:{table}", out=str(tmp_path / "out"), workers=1, limits=limits, **options))
    return {row["id"]: row for row in read_jsonl(tmp_path / "out" / "manifest.jsonl")}


def test_the_table_decides_first_and_only_what_may_pass_is_downloaded(tmp_path, table):
    path, downloaded = table
    rows = curate(tmp_path, path)
    place = GITHUB.removeprefix("https://")
    assert {id: (row["decision"], row["reason"]) for id, row in rows.items()} == {
        "moving": ("keep", ""),
        f"{place}/fox.glb": ("keep", ""),
        f"{place}/owl.gltf": ("keep", ""),
        f"{place}/wall.obj": ("reject", "no_animation"),
        f"{place}/car.glb": ("reject", "not_allowed"),
        f"{place}/no_licence.glb": ("reject", "unknown_licence"),
        "sold": ("reject", "not_allowed"),
        HELD_OUT: ("reject", "consistent4d_test"),
        f"{place}/gone.glb": ("failed", "not_available"),
    }
    names = [Path(name).name for name in downloaded]
    assert names == ["moving", "fox.glb", "owl.gltf", "gone.glb"]
    assert (rows["moving"]["author"], rows[f"{place}/fox.glb"]["author"]) == ("Bob", "ann")
    assert rows["moving"]["source"] == "objaverse-xl"


def test_a_list_of_animated_objects_narrows_the_downloads(tmp_path, table):
    """One by its uid, one by its content; the others are still, as far as the list knows."""
    path, downloaded = table
    digest = hashlib.sha256(f"{GITHUB}/fox.glb".encode()).hexdigest()
    (tmp_path / "animated.txt").write_text(f"moving\n{digest}\n")
    rows = curate(tmp_path, path, animated=str(tmp_path / "animated.txt"))
    assert [Path(name).name for name in downloaded] == ["moving", "fox.glb"]
    assert rows[f"{GITHUB}/owl.gltf".removeprefix("https://")]["reason"] == "no_animation"
    with pytest.raises(UserError, match=r"--animated .*: no such file"):
        curate(tmp_path, path, animated="nowhere.txt")
    with pytest.raises(UserError, match="--animated is for objaverse-xl: alone"):
        command.run(CurateConfig(str(tmp_path), animated="nowhere.txt"))


def test_a_limit_looks_at_the_first_and_a_larger_one_goes_on(tmp_path, table):
    path, downloaded = table
    assert list(curate(tmp_path, path, limit=1)) == ["moving"]
    assert len(curate(tmp_path, path, limit=3)) == 3
    assert [Path(name).name for name in downloaded] == ["moving", "fox.glb", "owl.gltf"]


def test_what_is_no_table_says_what_is_wanted(tmp_path):
    with pytest.raises(UserError, match=r"names no table: write objaverse-xl:FILE\.parquet"):
        curate(tmp_path, tmp_path / "nowhere.parquet")
    (tmp_path / "short.csv").write_text("fileIdentifier,source\na,github\n")
    with pytest.raises(UserError, match="lacks the columns license, fileType, sha256"):
        curate(tmp_path, tmp_path / "short.csv")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"text\.parquet is no table"):
        curate(tmp_path, tmp_path / "text.parquet")


@pytest.mark.parametrize(("name", "expected"), [
    (BY, "CC-BY"), ("Creative Commons - Attribution - ShareAlike", "CC-BY-SA"),
    ("Creative Commons - Attribution - NonCommercial - NoDerivs", "CC-BY-NC-ND"),
    ("CC0 Public Domain", "CC0"), ("Creative Commons - Public Domain", "CC0"), ("MIT License", "MIT"),
    ("Apache License 2.0", "APACHE"), ('BSD 3-Clause "New" or "Revised" License', "BSD"),
])  # fmt: skip
def test_licences_as_the_annotations_write_them(name: str, expected: str):
    assert family(name) == expected
