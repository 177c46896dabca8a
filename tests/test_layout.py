"""The folders' ranks: a lower one never imports a higher one, siblings of rank 4 never import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "viewtime": ("viewtime", 0),
    "model": ("viewtime.model", 1),
    "configs": ("viewtime.configs", 1),
    "tools/render_objaverse": ("viewtime.render_objaverse", 1),
    "data": ("viewtime.data", 2),
    "sample": ("viewtime.sample", 3),
    "train": ("viewtime.train", 4),
    "recon": ("viewtime.recon", 4),
}
RANK_5 = {"viewtime/cli.py", "viewtime/__main__.py", "viewtime/info.py", "train/train.py"}
SHORT_NAMES = {"model", "configs", "data", "sample", "train", "recon", "tools", "render_objaverse"}
FILES = [
    (path, folder)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in str(path)
]


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all imports of a file, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def folder_of(module: str) -> str:
    """The folder that a viewtime module lies in."""
    owners = [folder for folder, (name, _) in FOLDERS.items() if module == name or module.startswith(name + ".")]
    return max(owners, key=lambda folder: len(FOLDERS[folder][0]))


@pytest.mark.parametrize(("path", "folder"), FILES, ids=[p.relative_to(ROOT).as_posix() for p, _ in FILES])
def test_imports_go_down(path, folder):
    assert not (imported_modules(path) & SHORT_NAMES), "import by absolute name: viewtime.…"
    if path.relative_to(ROOT).as_posix() in RANK_5:
        return
    rank = FOLDERS[folder][1]
    for module in imported_modules(path):
        if module.split(".")[0] != "viewtime":
            continue
        other = folder_of(module)
        allowed = FOLDERS[other][1] < rank or other == folder or (rank == 1 and other == "configs")
        assert allowed, f"{folder} (rank {rank}) imports {module} (rank {FOLDERS[other][1]})"


def test_package_list_equals_the_folders():
    check = subprocess.run(
        [sys.executable, "tools/sync_packages.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_blender_worker_needs_nothing_but_blender():
    allowed = set(sys.stdlib_module_names) | {"numpy", "bpy", "bpy_extras", "mathutils", "blender_asset"}
    for path in (ROOT / "tools/render_objaverse").glob("blender_*.py"):
        assert {module.split(".")[0] for module in imported_modules(path)} <= allowed
