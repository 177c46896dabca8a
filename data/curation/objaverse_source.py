"""Candidates from Objaverse 1.0 through the `objaverse` package: annotations first, files only where they may pass."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from viewtime.data.curation.candidates import Candidate
from viewtime.errors import UserError, require

PREFIX = "objaverse:"


def read_ids(source: str) -> list[str]:
    """Ids of "objaverse:ID,ID,…" or "objaverse:FILE" (one id a line), without repetition, in order.

    Raises:
        UserError: none named.
    """
    text = source.removeprefix(PREFIX)
    if Path(text).is_file():
        text = Path(text).read_text()
    ids = list(dict.fromkeys(text.replace(",", " ").split()))
    if not ids:
        raise UserError(f"{source!r} names no object; write objaverse:ID,ID or objaverse:FILE with one id a line")
    return ids


def objaverse_candidates(ids: list[str]) -> Iterator[Candidate]:
    """One candidate an id; annotations are downloaded at once, an object's file when it is fetched.

    Raises:
        UserError: the package is not installed, or the annotations cannot be had.
    """
    package = require("objaverse", "render")
    try:
        annotations = package.load_annotations([id for id in ids if id in set(package.load_uids())])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"cannot get Objaverse's annotations: {error}; check the network, or delete the damaged file in "
            f"{package.BASE_PATH}"
        ) from error
    for id in ids:
        yield _candidate(package, id, annotations.get(id))


def _candidate(package: Any, id: str, annotation: dict[str, Any] | None) -> Candidate:
    if annotation is None:

        def unknown() -> Path:
            raise UserError(f"Objaverse has no object {id}")

        return Candidate(id, "objaverse", None, "", unknown)
    user = annotation.get("user") or {}
    return Candidate(
        id,
        "objaverse",
        annotation.get("license"),
        user.get("displayName") or user.get("username") or "",
        lambda: _download(package, id),
        annotation.get("animationCount"),
        annotation.get("faceCount"),
        annotation.get("name") or "",
    )


def _download(package: Any, id: str) -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = package.load_objects([id])
    except (OSError, EOFError) as error:
        raise UserError(f"cannot download {id}: {error}") from error
    if id not in found:
        raise UserError(f"Objaverse lists no file for {id}")
    return Path(found[id])
