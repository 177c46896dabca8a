"""The GPU day's script, dry: pieces with -debug twins on the CPU, cut off and resumed."""

import json
import os
import subprocess

import pytest
import torch

from benchmarks import gpu_day


def test_a_day_goes_on_where_it_stopped(tmp_path, monkeypatch):
    out = tmp_path / "day"
    out.mkdir()
    count = tmp_path / "runs"
    script = f"import sys; open({str(count)!r}, 'a').write(sys.argv[1]); sys.exit(sys.argv[1] == 'b')"
    pieces = [gpu_day.Piece(name, (gpu_day.sys.executable, "-c", script, name)) for name in "ab"]
    monkeypatch.setattr(gpu_day, "pieces", lambda out, dry: pieces)
    assert gpu_day.day(out, 0.0, dry=True) == 2  # no time
    assert not count.exists()
    assert gpu_day.day(out, 60.0, dry=True) == 0
    assert gpu_day.day(out, 60.0, dry=True) == 0
    assert count.read_text() == "ab"  # each once, the failed one too
    results = json.loads((out / "results.json").read_text())["pieces"]
    assert {name: result["ok"] for name, result in results.items()} == {"a": True, "b": False}
    assert "| b | **failed** |" in (out / "table.md").read_text()


def test_a_piece_measures():
    assert min(gpu_day.window("sv4d2-debug".removesuffix("-debug"), dry=True, whole=True).values()) >= 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the dry run is for machines without a GPU")
def test_dry_run(tmp_path):
    environment = {**os.environ, "DRY_RUN": "1", "PYTHON": gpu_day.sys.executable, "PYOPENGL_PLATFORM": "egl"}
    command = ["tools/gpu_day.sh", str(tmp_path), "3000"]
    done = subprocess.run(command, cwd=gpu_day.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())["pieces"]
    failed = {name: result["lines"] for name, result in results.items() if not result["ok"]}
    assert not failed
    assert len(results) == len(gpu_day.pieces(tmp_path, dry=True))
