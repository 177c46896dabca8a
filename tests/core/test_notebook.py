"""The notebook of examples/ runs from its first to its last cell, with fewer frames and steps."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "video_to_asset.ipynb"
LESS = ("frames, steps = 6, {\"count\": 4000, \"static_iterations\": 150, \"dynamic_iterations\": 300}",
        "frames, steps = 2, {\"count\": 300, \"static_iterations\": 20, \"dynamic_iterations\": 40}")  # fmt: skip


@pytest.mark.slow
def test_the_notebook_makes_an_asset_of_a_video(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "examples" / "knight.mp4", tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert any(LESS[0] in cell.source for cell in notebook.cells)
    for cell in notebook.cells:
        cell.source = cell.source.replace(*LESS)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "execute_result"]
    assert "data:image/png;base64," in shown[0].data["text/html"]
    assert (tmp_path / "outputs/knight/asset/asset.glb").read_bytes()[:4] == b"glTF"
