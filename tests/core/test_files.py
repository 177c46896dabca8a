import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from viewtime.errors import UserError, require, require_installed
from viewtime.files import append_jsonl, atomic_folder, atomic_path, read_jsonl, sweep


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    final = tmp_path / "a.txt"
    final.write_text("old")
    with pytest.raises(IsADirectoryError), atomic_path(final) as temporary:
        temporary.write_text("half") and tmp_path.write_text("a folder cannot be written")
    assert final.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_process_never_leaves_a_half_folder_under_the_final_name(tmp_path):
    code = (
        "import sys, time\nfrom viewtime.files import atomic_folder\n"
        "with atomic_folder(sys.argv[1], 'half') as folder:\n"
        "    (folder / 'half').write_text('x'); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    with atomic_folder(tmp_path / "out", "whole") as folder:
        (folder / "whole").write_text("y")
    assert os.listdir(tmp_path / "out") == ["whole"]


def test_jsonl_survives_a_line_cut_off_at_the_end(tmp_path):
    path = tmp_path / "log.jsonl"
    for index in range(3):
        append_jsonl(path, {"index": index})
    with path.open("a") as file:
        file.write('{"index": 3, "cut')
    assert [record["index"] for record in read_jsonl(path)] == [0, 1, 2]
    append_jsonl(path, {"index": 3, "norm": float("inf"), "parts": [float("nan"), 1.0]})
    assert read_jsonl(path)[3] == {"index": 3, "norm": None, "parts": [None, 1.0]}
    path.write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(UserError, match="line 2"):
        read_jsonl(path)


@pytest.mark.parametrize("check", [require, require_installed])
def test_missing_extras_name_the_way_out(check):
    with pytest.raises(UserError, match=r"needs a_module_that_nobody_has, .* pip install 'viewtime\[view\]'"):
        check("a_module_that_nobody_has", "view")


def write_new(final):
    with atomic_folder(final, "mark.json", (r"part_\d+\.txt",)) as folder:
        (folder / "mark.json").write_text("new")
        (folder / "part_0.txt").write_text("new")


def old_folder(final):
    final.mkdir()
    (final / "mark.json").write_text("old")
    (final / "part_1.txt").write_text("old")
    (final / ".DS_Store").write_text("the desktop's")


def test_a_folder_of_ours_is_replaced_whole(tmp_path):
    old_folder(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    write_new(tmp_path / "link")
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "mark.json": "new",
        "part_0.txt": "new",
    }


@pytest.mark.parametrize("foreign", ["in.mp4", "part_0.txt.bak", "below/part_0.txt", "part_x.txt"])
def test_a_folder_with_a_users_file_is_never_replaced(tmp_path, foreign):
    old_folder(tmp_path / "out")
    (tmp_path / "out" / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / foreign).write_text("precious")
    with pytest.raises(UserError, match=f"did not write all of it: {foreign}"):
        write_new(tmp_path / "out")
    assert (tmp_path / "out" / foreign).read_text() == "precious"
    assert (tmp_path / "out" / "mark.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_put_there_while_the_new_folder_was_made_stays_too(tmp_path):
    def write() -> None:
        with atomic_folder(tmp_path / "out", "mark.json") as folder:
            (folder / "mark.json").write_text("new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "late.mp4").write_text("precious")

    with pytest.raises(UserError, match=r"late\.mp4"):
        write()
    assert (tmp_path / "out" / "late.mp4").read_text() == "precious"


def test_files_of_our_names_without_our_mark_are_a_users(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part_0.txt").write_text("precious")
    with pytest.raises(UserError, match=r"part_0\.txt"):
        write_new(tmp_path / "out")


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("call", range(1, 8))
def test_a_kill_at_any_rename_or_removal_leaves_the_old_folder_or_the_new(tmp_path, call, exchanges):
    old_folder(tmp_path / "out")
    code = f"""
import os, signal, sys
from viewtime import files
from pathlib import Path
left = {call}
def killing(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0: os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
real_exchange = files.exchange
files.exchange = killing(lambda *paths: {exchanges} and real_exchange(*paths))
for name in ("replace", "rename", "unlink", "rmdir", "mkdir"): setattr(os, name, killing(getattr(os, name)))
with files.atomic_folder(Path(sys.argv[1]) / "out", "mark.json", [r"part_\\d+\\.txt"]) as folder:
    (folder / "mark.json").write_text("new")
    (folder / "part_0.txt").write_text("new")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    sweep(tmp_path)
    content = {path.name: path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix != ""}
    assert content in (
        {"mark.json": "old", "part_1.txt": "old"},
        {"mark.json": "new", "part_0.txt": "new"},
    )
    assert os.listdir(tmp_path) == ["out"]


def test_a_line_that_a_kill_cut_off_is_taken_away_before_the_next(tmp_path):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, {"index": 0})
    with path.open("a") as file:
        file.write('{"index": 1, "cut')
    append_jsonl(path, {"index": 2})
    assert [record["index"] for record in read_jsonl(path)] == [0, 2]
    path.write_text('{"only": "half')
    append_jsonl(path, {"index": 3})
    assert read_jsonl(path) == [{"index": 3}]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "a.safetensors") as path:
            save_file({"a": np.zeros(3)}, path)
        with atomic_folder(tmp_path / "folder", "a.safetensors") as folder:
            save_file({"a": np.zeros(3)}, folder / "a.safetensors")
    finally:
        os.umask(before)
    for path in (tmp_path / "a.safetensors", tmp_path / "folder" / "a.safetensors"):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.safetensors", "a.safetensors", "folder"]
