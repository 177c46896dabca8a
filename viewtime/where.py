"""What a path means: the grid or the asset that it is, holds, or belongs to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from viewtime.errors import UserError

SHOWN = 5


MAY_BE_EMPTY = ("prompt", "negative")
ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://\S+")


def refuse_address(text: str) -> None:
    """Refuse what is an address and no path; hub references (hf://) are read by `viewtime.hub`.

    Raises:
        UserError: an address; says how its file comes here.
    """
    match = ADDRESS.fullmatch(text)
    if match is None or match["scheme"].lower() == "hf":
        return
    if match["scheme"].lower() == "file":
        raise UserError(f"{text} is an address: give the path without file://")
    raise UserError(f"{text} is an address, and only files of this machine are read: download it and give its path")


def refuse_empty(argv: Sequence[str]) -> None:
    """Refuse an empty word where a value belongs: mostly a shell's variable that is not set, and no path means it.

    Raises:
        UserError: names the option.
    """
    for before, word in pairwise(["", *argv]):
        name, equals, value = word.partition("=")
        if word and not (name.startswith("--") and equals and not value):
            continue
        flag = name or (before if before.startswith("--") and "=" not in before else "")
        if not flag.startswith("--data.") and flag.rpartition(".")[2].lstrip("-") not in MAY_BE_EMPTY:
            raise UserError(f"{flag or 'an argument'} is empty: give a value, or leave it out")


def is_grid(folder: Path) -> bool:
    """Whether a folder holds a grid in either form."""
    return any((folder / name).is_file() for name in ("grid.json", "transforms_train.json", "transforms.json"))


def is_asset(folder: Path) -> bool:
    """Whether a folder is one that `viewtime reconstruct` wrote."""
    return (folder / "asset.json").is_file()


def find_grid(path: str | Path) -> Path:
    """The grid folder that a path means: itself, the folder of a grid's file, or the one grid of a run folder.

    Raises:
        UserError: there is none, or there are several.
    """
    path = Path(path)
    grids = grids_in(path)
    return _the_one(path, grids, "grid", "give the folder of a grid (grid.json), or a run folder of `viewtime sample`")


def grids_in(path: str | Path) -> list[Path]:
    """Grid folders that a path means, in order: itself, else its `grid`, else those in it or in its `grids`."""
    path = Path(path)
    if path.is_file() and is_grid(path.parent):
        return [path.parent]
    for candidates in ([path], [path / "grid"], _folders(path), _folders(path / "grids")):
        found = [folder for folder in candidates if is_grid(folder)]
        if found:
            return found
    return []


def find_asset(path: str | Path) -> Path:
    """The asset folder that a path means: itself, the folder of an asset's file, or the one asset below or beside it.

    Raises:
        UserError: there is none, or there are several.
    """
    path = Path(path)
    home = path.parent if path.is_file() else path
    beside = [home.with_name(f"{home.name}-asset"), home / "grid-asset"]
    assets: list[Path] = []
    for candidates in ([home], beside, _folders(home)):
        assets = assets or [folder for folder in candidates if is_asset(folder)]
    return _the_one(path, assets, "asset", "give a folder that `viewtime reconstruct` wrote (asset.json)")


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _the_one(path: Path, found: list[Path], kind: str, way_out: str) -> Path:
    if len(found) == 1:
        return found[0]
    if not path.exists():
        raise UserError(f"no such {kind}: {path}; {way_out}")
    if not found:
        raise UserError(f"{path} is no {kind} folder and holds none; {way_out}")
    names = ", ".join(str(folder) for folder in found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
    raise UserError(f"{path} holds {len(found)} {kind}s; name one of them: {names}")


def next_command(command: str, written: list[Path]) -> str | None:
    """The command that usually follows another, as a user would type it; None where nothing does.

    Args:
        written: the paths that the command wrote.
    """
    follows = {
        "curate": ("manifest.jsonl", "viewtime render {path}"),
        "render": ("grids", "viewtime encode {folder}"),
        "train": ("weights.safetensors", "viewtime sample --video VIDEO --weights {path}"),
        "sample": ("grid", "viewtime reconstruct {folder}"),
        "reconstruct": ("asset.json", "viewtime view {folder}"),
    }
    name, words = follows.get(command, ("", ""))
    path = next((path for path in written if path.name == name), None)
    return words.format(path=shlex.quote(str(path)), folder=shlex.quote(str(path.parent))) if path is not None else None
