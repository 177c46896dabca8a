"""What `viewtime render` is asked to render: a manifest, a folder or one file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from viewtime.errors import UserError
from viewtime.files import read_jsonl

GLTF_SUFFIXES = (".glb", ".gltf")
BLENDER_SUFFIXES = (*GLTF_SUFFIXES, ".fbx", ".blend")


@dataclass(frozen=True)
class AssetFile:
    """One file; `clips` are the names of the clips to render, None for all."""

    id: str
    path: Path
    clips: tuple[str, ...] | None = None


def find_assets(source: Path, engine: str) -> list[AssetFile]:
    """Assets of a manifest (its rows with decision "keep"), of a folder (searched below it) or a single file.

    Raises:
        UserError: nothing there that the engine can read.
    """
    suffixes = GLTF_SUFFIXES if engine == "gl" else BLENDER_SUFFIXES
    if source.is_dir() and (source / "manifest.jsonl").is_file():
        source = source / "manifest.jsonl"
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        found = [AssetFile(path.relative_to(source).as_posix(), path) for path in files]
    elif source.suffix.lower() == ".jsonl" and source.is_file():
        found = [_from_row(source, row) for row in read_jsonl(source) if row.get("decision") == "keep"]
    elif source.is_file():
        found = [AssetFile(source.name, source)]
        if source.suffix.lower() not in suffixes:
            raise UserError(f"{source.name}: the {engine} engine reads {', '.join(suffixes)}")
    else:
        raise UserError(f"no such manifest, folder or file: {source}")
    if not found:
        raise UserError(f"nothing to render in {source}: no {', '.join(suffixes)} and no kept manifest rows")
    return found


def _from_row(manifest: Path, row: dict) -> AssetFile:
    try:
        clips = tuple(clip["name"] for clip in row["clips"] if clip["decision"] == "keep")
        return AssetFile(str(row["id"]), manifest.parent / row["path"], clips)
    except (KeyError, TypeError) as error:
        raise UserError(f"{manifest.name}: a kept row without id, path or clips ({error!r})") from error


def sample_name(asset: str, clip: str | None, orbit: str) -> str:
    """A folder name that is readable and unique: words of the ids, and a digest of the exact ids."""
    digest = hashlib.sha256(f"{asset}\0{clip}\0{orbit}".encode()).hexdigest()[:8]
    words = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", part).strip("_")[-40:] for part in (asset, clip or "rest", orbit))
    return f"{words}-{digest}"


def sample_seed(seed: int, asset: str, clip: str | None, orbit: str) -> int:
    """A seed that depends on nothing but the sample and the run's seed, so order and workers do not matter."""
    text = f"{seed}\0{asset}\0{clip}\0{orbit}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
