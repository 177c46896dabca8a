"""The Objaverse ids of published test sets: they must never enter a training set."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

HELDOUT_FILE = Path(__file__).resolve().parent.parent / "heldout_ids.json"


@cache
def heldout_ids() -> dict[str, str]:
    """Objaverse id -> name of the test set that holds it."""
    record = json.loads(HELDOUT_FILE.read_text())
    return {id: name for name, part in record.items() if isinstance(part, dict) for id in part["ids"]}


def heldout_set_of(id: str) -> str | None:
    """The test set that an asset belongs to, by its id or a file name made from it; None for all others."""
    return heldout_ids().get(Path(id).stem.lower().removeprefix("objaverse-"))
