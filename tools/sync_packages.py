"""Rewrite the package table of pyproject.toml from the folder tree.

The folders lie at the top level (`model/`, `data/`, …) and are imported as `viewtime.model`, `viewtime.data`, …
setuptools has no automatic discovery for that mapping, so the list is written out; `--check` only compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = ("model", "configs", "data", "sample", "train", "recon", "app")
MAPPED = {"viewtime.render_objaverse": "tools/render_objaverse"}
DATA_FILES = (
    *("*.json", "*.yaml", "*.safetensors", "*.md", "*.cpp", "*.h", "*.html", "py.typed"),
    *("assets/*", "cards/*", "families/*.yaml", "heldout/*.yaml", "launch/*"),
)


def packages() -> dict[str, str]:
    """Import name -> folder, for every folder that holds an `__init__.py`."""
    roots = {"viewtime": "viewtime", **{f"viewtime.{name}": name for name in TOP_LEVEL}, **MAPPED}
    found = {}
    for import_name, folder in roots.items():
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            relative = init.parent.relative_to(ROOT / folder)
            found[".".join([import_name, *relative.parts])] = init.parent.relative_to(ROOT).as_posix()
    return found


def render(found: dict[str, str]) -> str:
    """The TOML text between the two marker comments."""
    names = "\n".join(f'    "{name}",' for name in found)
    mapping = "\n".join(f'"{name}" = "{folder}"' for name, folder in found.items())
    patterns = ", ".join(f'"{pattern}"' for pattern in DATA_FILES)
    return (
        f"packages = [\n{names}\n]\n\n[tool.setuptools.package-dir]\n{mapping}\n\n"
        f'[tool.setuptools.package-data]\n"*" = [{patterns}]\n'
    )


def main() -> int:
    path = ROOT / "pyproject.toml"
    before = path.read_text()
    head, rest = before.split("# begin packages\n")
    _, tail = rest.split("# end packages\n")
    after = f"{head}# begin packages\n{render(packages())}# end packages\n{tail}"
    if after == before:
        return 0
    if "--check" in sys.argv:
        print("pyproject.toml does not list the packages of the tree: run `python tools/sync_packages.py`")
        return 1
    path.write_text(after)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
