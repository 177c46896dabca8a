"""What paths mean, what follows a command, what a failed start leaves, and progress lines."""

import pytest
import torch

from viewtime import log as logging
from viewtime.cli import run_command
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.video import read_video
from viewtime.where import find_asset, find_grid, grids_in, next_command, refuse_address, refuse_empty


def small_grid():
    return FrameGrid(torch.zeros(2, 2, 3, 8, 8), torch.zeros(2, 2, dtype=torch.bool))


def asset_at(folder):
    folder.mkdir(parents=True)
    (folder / "asset.json").write_text("{}")
    (folder / "asset.glb").touch()
    return folder


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sample", "--video", "https://example.com/a.mp4"], "https://example.com/a.mp4 is an address, and only files"),
        (["sample", "--video=https://example.com/a.mp4"], "https://example.com/a.mp4 is an address, and only files"),
        (["reconstruct", "s3://bucket/grid"], "download it and give its path"),
        (["train", "--config", "HTTP://x.y/c.yaml"], "download it and give its path"),
        (["render", "file:///tmp/a.glb"], "give the path without file://"),
    ],
)
def test_addresses_are_no_paths(argv, words, capsys):
    assert run_command(argv[0], argv[1:], "viewtime") == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sample", "--video", ""], "--video is empty: give a value, or leave it out"),
        (["sample", "--video", "a.mp4", "--weights="], "--weights is empty"),
        (["sample", "--video", "a.mp4", "--reference.orbit", ""], "--reference.orbit is empty"),
        (["sample", "--videos", "", "--jobs", "2"], "--videos is empty"),
        (["reconstruct", ""], "an argument is empty"),
        (["reconstruct", "--out=x", ""], "an argument is empty"),
    ],
)
def test_an_empty_word_is_no_path(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(argv[0], argv[1:], "viewtime") == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_text_may_be_empty():
    texts = ["--text.prompt", "", "--data.options.assets=", "--negative", ""]
    assert refuse_empty([*texts, "--out", "x"]) is None
    with pytest.raises(UserError, match="--out is empty"):  # beside them a path still may not
        refuse_empty([*texts, "--out", ""])


def test_hub_references_and_paths_are_no_addresses():
    for text in ("hf://owner/name", "objaverse:/a/b.json", "a red:/blue knight", "C:/a", "{weights: hf://a/b}", ""):
        refuse_address(text)
    with pytest.raises(UserError, match="is an address"):
        read_video("https://example.com/a.mp4")


def test_a_run_folder_means_its_grid(tmp_path):
    grid = small_grid().save(tmp_path / "x" / "grid")
    for path in (grid, tmp_path / "x", grid / "grid.json", tmp_path / "x" / "grid"):
        assert find_grid(path) == grid
    assert open_grid(tmp_path / "x").shape == (2, 2, 3, 8, 8)
    only = small_grid().save(tmp_path / "truth" / "grids" / "clip")
    assert find_grid(tmp_path / "truth") == only


def test_several_grids_must_be_named(tmp_path):
    for name in "ab":
        small_grid().save(tmp_path / "truth" / "grids" / name)
    assert [path.name for path in grids_in(tmp_path / "truth")] == ["a", "b"]
    with pytest.raises(UserError, match=r"holds 2 grids; name one of them: .*grids/a"):
        find_grid(tmp_path / "truth")
    with pytest.raises(UserError, match="no such grid"):
        find_grid(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none"):
        find_grid(tmp_path / "empty")


def test_a_file_the_folder_above_and_the_run_mean_the_asset(tmp_path):
    asset = asset_at(tmp_path / "x-asset")
    (tmp_path / "x").mkdir()
    for path in (asset, asset / "asset.glb", tmp_path / "x", tmp_path):
        assert find_asset(path) == asset
    asset_at(tmp_path / "y-asset")
    with pytest.raises(UserError, match="holds 2 assets"):
        find_asset(tmp_path)


def test_the_next_command_takes_what_this_one_wrote(tmp_path):
    assert next_command("sample", [tmp_path / "preview.png", tmp_path / "grid"]) == f"viewtime reconstruct {tmp_path}"
    assert next_command("reconstruct", [tmp_path / "asset.json"]) == f"viewtime view {tmp_path}"
    spaced = tmp_path / "a run"  # as a shell takes it
    assert next_command("reconstruct", [spaced / "asset.json"]) == f"viewtime view '{spaced}'"
    assert next_command("view", [tmp_path / "page.html"]) is None
    assert next_command("sample", []) is None


def test_a_failed_start_leaves_no_folder_and_an_earlier_run_stays(tmp_path, capsys):
    grid, out = small_grid().save(tmp_path / "grid"), tmp_path / "made" / "asset"
    words = [str(grid), "--out", str(out)]
    assert run_command("reconstruct", words, "viewtime reconstruct") == 1
    assert "no cameras" in capsys.readouterr().err
    assert not out.parent.exists()
    out.mkdir(parents=True)
    (out / "notes.txt").touch()
    assert run_command("reconstruct", words, "viewtime reconstruct") == 1
    assert (out / "notes.txt").exists()


def test_no_progress_line_is_written_twice(capsys, monkeypatch):
    clock = iter(range(0, 1000, 11))
    monkeypatch.setattr(logging.time, "monotonic", lambda: float(next(clock)))
    for _ in logging.progress(range(3), "working"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert " s left" in lines[0]
    assert lines[-1].startswith("working: 3/3 (")
    assert len(set(lines)) == len(lines)
