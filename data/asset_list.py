"""Which assets and clips a training stream may render: a folder, or the manifest of `viewtime curate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from viewtime.data.curation.heldout import heldout_set_of
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.log import log

READABLE = (".glb", ".gltf")


@dataclass(frozen=True)
class Asset:
    """A file to render; `clips` are the names of the clips that may be used, None for all that move."""

    id: str
    path: Path
    clips: tuple[str, ...] | None = None


def list_assets(where: str) -> list[Asset]:
    """Assets of a folder (searched below it) or of a curation manifest (its kept rows), sorted by id.

    Held-out test objects are left out, with a warning.

    Raises:
        UserError: nothing there, or nothing left.
    """
    path = Path(where)
    if path.is_dir() and (path / "manifest.jsonl").is_file():
        path = path / "manifest.jsonl"
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in READABLE and file.is_file())
        found = [Asset(str(file.relative_to(path).with_suffix("")), file) for file in files]
    elif path.is_file():
        rows = [row for row in read_jsonl(path) if row.get("decision") == "keep"]
        found = [
            Asset(
                row["id"], path.parent / row["path"], tuple(c["name"] for c in row["clips"] if c["decision"] == "keep")
            )
            for row in rows
        ]
    else:
        raise UserError(f"no such folder or manifest: {where}")
    held = [asset.id for asset in found if heldout_set_of(asset.id)]
    if held:
        log.warning("left out %d held-out test objects, e.g. %s", len(held), held[0])
    kept = sorted((asset for asset in found if not heldout_set_of(asset.id)), key=lambda asset: asset.id)
    if not kept:
        raise UserError(f"no asset to render at {where}; looked for {', '.join(READABLE)} or rows with decision keep")
    return kept
