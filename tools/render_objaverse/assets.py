"""What `viewtime render` is asked to render: a manifest, a folder or one file."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from viewtime.configs.schema.render import RenderConfig
from viewtime.errors import UserError

from .gltf import load_scene
from .gltf_file import AssetError
from .manifest import kept_rows

GLTF_SUFFIXES = (".glb", ".gltf")
BLENDER_SUFFIXES = (*GLTF_SUFFIXES, ".fbx", ".blend")
CONTENT_BYTES = 1 << 20


@dataclass(frozen=True)
class AssetFile:
    """One file; `clips` are the names of the clips to render, None for all; `whole` where it has no others."""

    id: str
    path: Path
    clips: tuple[str, ...] | None = None
    whole: bool = True


def find_assets(source: Path, engine: str) -> list[AssetFile]:
    """Assets of a manifest (its rows with decision "keep"), of a folder (searched below it) or a single file.

    Raises:
        UserError: nothing there that the engine can read.
    """
    suffixes = GLTF_SUFFIXES if engine == "gl" else BLENDER_SUFFIXES
    if source.is_dir() and (source / "manifest.jsonl").is_file():
        source = source / "manifest.jsonl"
    if source.is_dir():
        found = [AssetFile(path.relative_to(source).as_posix(), path) for path in files_below(source, suffixes)]
    elif source.suffix.lower() == ".jsonl" and source.is_file():
        found = [AssetFile(row.id, source.parent / row.path, row.clip_names()) for row in kept_rows(source)]
    elif source.is_file():
        found = [AssetFile(source.name, source)]
        if source.suffix.lower() not in suffixes:
            raise UserError(f"{source.name}: the {engine} engine reads {', '.join(suffixes)}")
    else:
        raise UserError(f"no such manifest, folder or file: {source}")
    if not found:
        raise UserError(f"nothing to render in {source}: no {', '.join(suffixes)} and no kept manifest rows")
    return found


def first_clips(assets: list[AssetFile], config: RenderConfig) -> list[AssetFile]:
    """The assets that hold the first `config.limit` clips, the last of them with some of its clips."""
    if not config.limit:
        return assets
    left, kept = config.limit, []
    for asset in assets:
        if left <= 0:
            break
        names = _clip_names(asset, config)
        kept.append(asset if len(names) <= left else replace(asset, clips=names[:left], whole=False))
        left -= max(1, len(names))  # what cannot be read, or has no clip, is one sample that says so
    return kept


def _clip_names(asset: AssetFile, config: RenderConfig) -> tuple[str, ...]:
    """Clips that an asset gives; () where only Blender, or nobody, can tell."""
    names = asset.clips
    if asset.path.suffix.lower() in GLTF_SUFFIXES:
        try:
            inside = tuple(clip.name for clip in load_scene(asset.path).clips)
        except AssetError:
            return ()
        names = inside if names is None else tuple(name for name in inside if name in names)
    wanted = tuple(name for name in names or () if not config.clips or name in config.clips)
    return wanted[: config.clips_per_asset or None]


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with one of these suffixes (in lower case), sorted; not the "._x" that macOS puts beside "x"."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not path.name.startswith("._"))


def content_of(path: Path) -> str:
    """A digest of the file's length, beginning and end: two files of one name are told apart by it.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.sha256(str(size).encode())
            for start in (0, max(0, size - CONTENT_BYTES)):
                file.seek(start)
                digest.update(file.read(CONTENT_BYTES))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def sample_name(asset: str, content: str, clip: str | None, orbit: str) -> str:
    """A folder name that is readable and unique: words of the ids, and a digest of the exact ids and the content."""
    digest = hashlib.sha256(f"{asset}\0{content}\0{clip}\0{orbit}".encode()).hexdigest()[:8]
    words = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", part).strip("_")[-40:] for part in (asset, clip or "rest", orbit))
    return f"{words}-{digest}"


def sample_seed(seed: int, asset: str, clip: str | None, orbit: str) -> int:
    """A seed that depends on nothing but the sample and the run's seed, so order and workers do not matter."""
    text = f"{seed}\0{asset}\0{clip}\0{orbit}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
