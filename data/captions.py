"""Captions that lie beside a video or an asset: NAME.txt with the text of NAME.mp4 or NAME.glb."""

from __future__ import annotations

from pathlib import Path

from viewtime.errors import UserError


def read_caption(path: Path) -> str:
    """The caption of a file, in one line; "" where there is none.

    Raises:
        UserError: the text file is not UTF-8.
    """
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return ""
    try:
        return " ".join(beside.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise UserError(f"the caption {beside} is not UTF-8 text: {error.reason}; save it as UTF-8") from error
