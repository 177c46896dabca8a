"""What is to be curated: files of a folder with their licences, or anything else that gives `Candidate`s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viewtime.data.captions import read_caption
from viewtime.errors import UserError
from viewtime.json_files import checked, read_json
from viewtime.render_objaverse.assets import files_below

SUFFIXES = (".glb", ".gltf", ".fbx", ".blend")


@dataclass(frozen=True)
class Candidate:
    """One asset before its file is looked at.

    Attributes:
        id: unique in the source; the file's path in the folder without suffix, or the Objaverse id.
        source: "folder" or "objaverse".
        licence: as written by its author, or None where nobody says.
        author: who to credit, or "".
        animations: number of clips known beforehand (annotations), or None.
        triangles: known beforehand, or None.
        caption: what it shows, or "".
        fetch: gives the local path, downloading if need be; raises UserError where that fails.
    """

    id: str
    source: str
    licence: str | None
    author: str
    fetch: Callable[[], Path]
    animations: int | None = None
    triangles: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class LicenceRow:
    """A row of a licence table."""

    file: str
    licence: str | None = None
    author: str | None = None


def read_licence_table(path: Path) -> dict[str, dict[str, Any]]:
    """File name -> {"licence": …, "author": …}.

    Reads a JSON mapping {file: licence}, or a list (also under the key "assets") of {"file", "licence", "author"}.

    Raises:
        UserError: no such file or none of these forms.
    """
    record = read_json(path, object)
    rows = record.get("assets", record) if isinstance(record, dict) else record
    if isinstance(rows, dict) and all(isinstance(value, str) for value in rows.values()):
        return {name: {"licence": licence, "author": ""} for name, licence in rows.items()}
    if isinstance(rows, list) and all(isinstance(row, dict) and "file" in row for row in rows):
        found = checked(rows, list[LicenceRow], str(path))
        return {row.file: {"licence": row.licence, "author": row.author or ""} for row in found}
    raise UserError(f"{path} must hold {{file: licence}} or a list of objects with the keys file, licence, author")


def folder_candidates(folder: Path, licence: str | None = None, table: Path | None = None) -> Iterator[Candidate]:
    """Every 3D file below the folder, sorted by path.

    Args:
        licence: of all files that the table does not name.
        table: licence table; `licences.json` or `INDEX.json` in the folder where not given.

    Raises:
        UserError: no such folder, or no 3D file in it.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the folder that it lies in")
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    files = files_below(folder, SUFFIXES)
    if not files:
        raise UserError(f"no 3D file in {folder}; looked for {', '.join(SUFFIXES)}")
    beside = [folder / name for name in ("licences.json", "INDEX.json") if (folder / name).is_file()]
    path = table or (beside[0] if beside else None)
    known = read_licence_table(path) if path else {}
    stems = [str(file.relative_to(folder).with_suffix("")) for file in files]
    names = {str(file.relative_to(folder)) for file in files}
    for file, stem in zip(files, stems):
        name = str(file.relative_to(folder))
        row = known.get(name) or known.get(file.name) or {"licence": licence, "author": ""}
        # "a.glb" beside "a.fbx" keeps its suffix, and then "a.glb.glb" may not be called so.
        unique = stem if stems.count(stem) == 1 and stem not in names else name
        yield Candidate(
            unique, "folder", row["licence"], row["author"], lambda file=file: file, caption=read_caption(file)
        )
