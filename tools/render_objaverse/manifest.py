"""Rows of the manifest that `viewtime curate` writes, as its readers need them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.json_files import checked


@dataclass(frozen=True)
class ClipRow:
    """A clip of an asset; `content` is a digest by which repeated clips are found."""

    name: str
    decision: str
    content: str | None = None


@dataclass(frozen=True)
class KeptRow:
    """A row whose asset may be used; its path is relative to the manifest."""

    id: str
    path: str
    clips: list[ClipRow]
    caption: str | None = None

    def clip_names(self) -> tuple[str, ...]:
        """Names of the clips that may be used."""
        return tuple(clip.name for clip in self.clips if clip.decision == "keep")


def kept_rows(manifest: Path) -> list[KeptRow]:
    """The rows with decision "keep".

    Raises:
        UserError: no such file, a line is no JSON object, or a kept row lacks id, path or clips.
    """
    return [
        checked(row, KeptRow, f"{manifest}, row {row.get('id', '?')!r:.80}")
        for row in read_jsonl(manifest)
        if row.get("decision") == "keep"
    ]


@dataclass(frozen=True)
class DecidedRow:
    """What going on with a curation needs of a row; of a kept one also the digests that find repeated assets."""

    id: str
    decision: str
    stage: str
    reason: str
    licence: str | None = None
    sha256: str = ""
    content: str = ""
    clips: list[ClipRow] | None = None


def check_decided(row: dict[str, Any], where: str) -> None:
    """Raises UserError where a row of an earlier curation is not whole."""
    found = checked(row, DecidedRow, where)
    whole = found.sha256 and found.content and found.clips is not None
    if found.decision == "keep" and not (whole and all(clip.content for clip in found.clips or ())):
        raise UserError(f"{where} is damaged: a kept row needs sha256, content, and clips with theirs")
