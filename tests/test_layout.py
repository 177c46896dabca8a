"""Who may import whom: the folders' ranks and, inside recon/ and sample/, the rooms' floors."""

import ast
import graphlib
import subprocess
import sys
from collections import Counter
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
    "app": ("viewtime.app", 5),
}
RANK_5 = {f"viewtime/{name}.py" for name in ("__init__", "cli", "__main__", "info", "many")} | {"train/train.py"}
SHORT_NAMES = {"app", "model", "configs", "data", "sample", "train", "recon", "tools", "render_objaverse"}
# Top floor first; what lies in the folder itself stands above all of its rooms. A room imports those after it.
FLOORS = {
    "recon": [
        "distill",
        "direct",
        "nerf",
        "scene",
        "interchange",
        "gaussians",
        "export",
        "surface",
        "fitting",
        "render",
    ],
    "sample": ["run", "models", "solver", "plan", "input", "metrics"],
}
MOST_FILES = 15  # in one room
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


def upward_imports(house: str, room: str, modules: set[str]) -> list[str]:
    """The modules that a file of a room ("" for the folder itself) must not import."""
    floors = ["", *FLOORS[house]]
    name = FOLDERS[house][0]
    found = []
    for module in sorted(modules):
        if not module.startswith(f"{name}."):
            continue
        first = module.removeprefix(f"{name}.").split(".")[0]
        other = first if first in floors else ""
        if floors.index(other) < floors.index(room):
            found.append(module)
    return found


def absolute_imports(path: Path, package: str) -> set[str]:
    """As `imported_modules`, with relative imports and names imported from a package resolved."""
    found = imported_modules(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("house", FLOORS)
def test_floors_inside_a_house(house):
    folder = ROOT / house
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms == set(FLOORS[house]), "a new room needs its floor in FLOORS"
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        room = parts[0] if len(parts) > 1 else ""
        package = ".".join([FOLDERS[house][0], *parts[:-1]])
        wrong = upward_imports(house, room, absolute_imports(path, package))
        assert not wrong, f"{path.relative_to(ROOT)} imports upwards: {', '.join(wrong)}"


def test_an_upward_import_is_seen(tmp_path):
    planted = tmp_path / "hull.py"
    for line in ("from ..gaussians.fit import GaussianFit", "from viewtime.recon.gaussians import fit",
                 "from .. import command", "import viewtime.recon.command"):  # fmt: skip
        planted.write_text(f"def late():\n    {line}\n")
        assert upward_imports("recon", "fitting", absolute_imports(planted, "viewtime.recon.fitting")), line
    planted.write_text("from ..render.splats import Splats\nfrom .targets import Targets\n")
    assert not upward_imports("recon", "fitting", absolute_imports(planted, "viewtime.recon.fitting"))


def test_no_import_circle_inside_a_house():
    for house in FLOORS:
        modules = {module_name(path, house): path for path in (ROOT / house).rglob("*.py")}
        arrows = {}
        for name, path in modules.items():
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            arrows[name] = (absolute_imports(path, package) & set(modules)) - {name}
        graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError


def module_name(path: Path, house: str) -> str:
    """Import name of a file of a house."""
    parts = path.relative_to(ROOT / house).with_suffix("").parts
    return ".".join([FOLDERS[house][0], *(part for part in parts if part != "__init__")])


@pytest.mark.parametrize("house", ["model", "data", "sample", "train", "recon", "app"])
def test_no_room_is_crowded(house):
    for folder in {path.parent for path in (ROOT / house).rglob("*.py")}:
        files = [path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


def test_no_two_test_files_are_one_module():
    """pytest imports a file of a folder without `__init__.py` by its bare name."""
    files = (ROOT / "tests").rglob("*.py")
    bare = Counter(path.name for path in files if not (path.parent / "__init__.py").is_file())
    assert not [name for name, count in bare.items() if count > 1 and name != "conftest.py"]


def test_package_list_equals_the_folders():
    check = subprocess.run(
        [sys.executable, "tools/sync_packages.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_blender_worker_needs_nothing_but_blender():
    blender = {"bpy", "bpy_extras", "mathutils", "io_scene_fbx"}
    workers = sorted((ROOT / "tools/render_objaverse").glob("blender_*.py"))
    allowed = set(sys.stdlib_module_names) | {"numpy"} | blender | {path.stem for path in workers}
    for path in workers:
        assert {module.split(".")[0] for module in imported_modules(path)} <= allowed
