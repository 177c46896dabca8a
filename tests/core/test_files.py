import os
import signal
import subprocess
import sys

import pytest

from viewtime.errors import UserError, require, require_installed
from viewtime.files import append_jsonl, atomic_folder, atomic_path, read_jsonl


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
        "with atomic_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('x'); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("y")
    assert os.listdir(tmp_path / "out") == ["whole"]


def test_jsonl_survives_a_line_cut_off_at_the_end(tmp_path):
    path = tmp_path / "log.jsonl"
    for index in range(3):
        append_jsonl(path, {"index": index})
    with path.open("a") as file:
        file.write('{"index": 3, "cut')
    assert [record["index"] for record in read_jsonl(path)] == [0, 1, 2]
    path.write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(UserError, match="line 2"):
        read_jsonl(path)


@pytest.mark.parametrize("check", [require, require_installed])
def test_missing_extras_name_the_way_out(check):
    with pytest.raises(UserError, match=r"needs a_module_that_nobody_has, .* pip install 'viewtime\[view\]'"):
        check("a_module_that_nobody_has", "view")
