"""One command on many inputs: what is found, what is recorded, what a second run does, Ray in place of processes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from viewtime import many
from viewtime.cli import main
from viewtime.configs.schema.many import ManyReconstructions
from viewtime.errors import UserError
from viewtime.many import Item, asks_for_many, grids_below, parse_many, run_many, run_one, videos_in
from viewtime.video import write_gif


@pytest.fixture
def folder(tmp_path):
    """Two videos of one name, a folder of pictures, and things that are no video."""
    place = tmp_path / "in"
    (place / "frames").mkdir(parents=True)
    (place / "empty").mkdir()
    clip = np.zeros((2, 8, 8, 3), np.uint8)
    write_gif(place / "a.gif", clip, 8.0)
    shutil.copy(place / "a.gif", place / "a.webp")
    (place / "frames" / "0.png").write_bytes(b"x")
    (place / "notes.txt").write_text("no video")
    return place


def test_what_is_found(folder, tmp_path):
    assert {name: path.name for name, path in videos_in(folder).items()} == {
        "a": "a.gif", "a.webp": "a.webp", "frames": "frames",
    }  # fmt: skip
    for place in ("g/x", "g/y/grid"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "grid.json").write_text("{}")
    assert sorted(grids_below(tmp_path / "g")) == ["x", "y__grid"]
    assert asks_for_many("sample", ["--videos=x"])
    assert not asks_for_many("sample", ["--video", "x"])
    assert not asks_for_many("view", ["--videos", "x"])


def test_other_options_go_to_each_command():
    config, rest = parse_many("reconstruct", ["--grids", "g", "--mesh.faces", "99", "--jobs", "3"], "t")
    assert config == ManyReconstructions(Path("g"), jobs=3)
    assert rest == ["--mesh.faces", "99"]


@pytest.fixture
def pretended(monkeypatch):
    """Commands that succeed but for the input `bad`; the items that were run."""
    seen: list[str] = []

    def outcome(item: Item, threads: int, parent: int | None):
        seen.append(item.name)
        row = {"item": item.name, "words": list(item.words), "seconds": 1.0}
        if "bad" in item.name:
            return row | {"state": "failed", "reason": "t: it | is bad"}
        item.out.mkdir(parents=True)
        return row | {"state": "done", "psnr": 31.25}

    monkeypatch.setattr(many, "run_one", outcome)
    return seen


def grids(tmp_path, *names):
    for name in names:
        (tmp_path / "g" / name).mkdir(parents=True)
        (tmp_path / "g" / name / "grid.json").write_text("{}")
    return ManyReconstructions(tmp_path / "g", tmp_path / "out", jobs=2)


def test_a_second_run_does_what_failed_and_what_is_new_or_asked_otherwise(tmp_path, pretended, capsys):
    config = grids(tmp_path, "a", "b", "bad")
    table, record = run_many("reconstruct", config, [])
    assert sorted(pretended) == ["a", "b", "bad"]
    assert [json.loads(line)["state"] for line in record.read_text().splitlines()].count("failed") == 1
    assert "| a | done | 1 | 31.25 |  |" in table.read_text()
    assert "| bad | failed | 1 |  | t: it \\| is bad |" in table.read_text()
    assert "2 done, 1 failed" in capsys.readouterr().out
    pretended.clear()
    grids(tmp_path, "new")
    run_many("reconstruct", config, [])
    assert sorted(pretended) == ["bad", "new"]
    pretended.clear()
    for name in ("a", "b", "new"):
        (tmp_path / "out" / name).rmdir()
    run_many("reconstruct", config, ["--seed", "1"])
    assert sorted(pretended) == ["a", "b", "bad", "new"]


def test_too_many_failures_and_nothing_to_do_are_told(tmp_path, pretended):
    config = grids(tmp_path, "bad1", "bad2", "a")
    with pytest.raises(UserError, match=r"2 of 3 failed, more than --max-failed-share 0\.5"):
        run_many("reconstruct", config, [])
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"nothing in it that `viewtime reconstruct` takes"):
        run_many("reconstruct", ManyReconstructions(tmp_path / "none", tmp_path / "out"), [])


def test_the_reason_is_the_commands_last_line(tmp_path, folder, capfd):
    assert main(["sample", "--videos", str(folder / "empty"), "--out", str(tmp_path / "o")]) == 1
    assert "nothing in it that `viewtime sample` takes" in capfd.readouterr().err
    item = Item("x", ("reconstruct", str(tmp_path / "absent"), "--out", str(tmp_path / "o")), tmp_path / "o")
    row = run_one(item, 1, None)
    assert row["state"] == "failed"
    assert str(tmp_path / "absent") in row["reason"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_does_the_same(tmp_path):
    (tmp_path / "g" / "a").mkdir(parents=True)
    (tmp_path / "g" / "a" / "grid.json").write_text("{}")  # damaged, so that it ends at once
    config = ManyReconstructions(tmp_path / "g", tmp_path / "out", ray="local", max_failed_share=1.0)
    table, _ = run_many("reconstruct", config, [])
    assert "| a | failed |" in table.read_text()
