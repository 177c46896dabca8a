"""Candidates from Objaverse-XL: a table in the layout of its annotations, filtered before anything is downloaded.

The annotations (columns fileIdentifier, source, license, fileType, sha256, metadata; 10 million rows) say nothing of
animation. What they tell is used first: kinds of files that can hold none, licences, repeated contents. A list of
animated objects, as others have published, narrows the rest (`--animated`); without one each file is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from viewtime.data.curation.candidates import SUFFIXES, Candidate
from viewtime.errors import UserError, first_line, require

PREFIX = "objaverse-xl:"
COLUMNS = ("fileIdentifier", "source", "license", "fileType", "sha256")
DOWNLOADS = "~/.objaverse"
Row = dict[str, Any]


def read_annotations(source: str) -> list[Row]:
    """Rows of "objaverse-xl:TABLE", a parquet or CSV file, in its order.

    Raises:
        UserError: no such table, or a column is missing.
    """
    pandas = require("pandas", "render")
    path = Path(source.removeprefix(PREFIX))
    if not path.is_file():
        raise UserError(
            f"{source!r} names no table: write objaverse-xl:FILE.parquet (or .csv) with the rows of "
            "objaverse.xl.get_annotations() that you want"
        )
    try:
        table = pandas.read_csv(path, dtype=str) if path.suffix == ".csv" else pandas.read_parquet(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table: {first_line(error)}") from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)} of Objaverse-XL's annotations")
    return table.astype(object).where(table.notna(), None).to_dict("records")


def read_animated(path: str) -> set[str]:
    """Ids of a list of animated objects: one fileIdentifier, sha256 or Sketchfab uid a line.

    Raises:
        UserError: no such file, or nothing in it.
    """
    if not Path(path).is_file():
        raise UserError(f"--animated {path}: no such file; it holds one fileIdentifier, sha256 or uid a line")
    names = set(Path(path).read_text().split())
    if not names:
        raise UserError(f"--animated {path} is empty; it holds one fileIdentifier, sha256 or uid a line")
    return names


def xl_candidates(rows: list[Row], animated: set[str] | None = None) -> Iterator[Candidate]:
    """One candidate a row; its file is downloaded when it is fetched.

    Args:
        animated: see `read_animated`; None: nothing is known.

    Raises:
        UserError: two rows of one file.
    """
    seen: set[str] = set()
    for row in rows:
        name, digest = str(row["fileIdentifier"]), str(row["sha256"])
        if name in seen:
            raise UserError(f"the table names {name} twice; drop the repetition")
        seen.add(name)
        can_move = f".{str(row['fileType']).lower().lstrip('.')}" in SUFFIXES
        listed = animated is None or bool({name, digest, object_id(row)} & animated)
        candidate = Candidate(
            object_id(row), "objaverse-xl", row["license"], author_of(row), lambda row=row: _download(row)
        )
        yield candidate if can_move and listed else replace(candidate, animations=0)


def object_id(row: Row) -> str:
    """Sketchfab's uid, by which test sets are known; elsewhere the address without its scheme."""
    name = str(row["fileIdentifier"])
    return name.rstrip("/").rpartition("/")[2] if row["source"] == "sketchfab" else name.partition("://")[2] or name


def author_of(row: Row) -> str:
    """The owner of the repository, or what the row's metadata (JSON) say."""
    name = str(row["fileIdentifier"])
    if row["source"] == "github":
        return name.partition("github.com/")[2].partition("/")[0]
    try:
        told = json.loads(row.get("metadata") or "{}")
    except (ValueError, TypeError):
        return ""
    return str(told.get("username") or told.get("author") or "") if isinstance(told, dict) else ""


def _download(row: Row) -> Path:
    require("objaverse", "render")
    import objaverse.xl
    import pandas

    name = row["fileIdentifier"]
    try:
        # GitHub's repositories are thrown away again unless a format is named; the other sources ignore it.
        found = objaverse.xl.download_objects(pandas.DataFrame([row]), DOWNLOADS, 1, save_repo_format="files")
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"cannot download {name}: {error}") from error
    if name not in found:
        raise UserError(f"{name} is not there any more, or has changed")
    return Path(found[name])
