"""Which assets and clips a training stream may render: a folder, or the manifest of `viewtime curate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viewtime.configs.load import load_preset
from viewtime.configs.schema.data import DataConfig
from viewtime.data.captions import read_caption
from viewtime.data.curation.heldout import heldout_set_of
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.render_objaverse.manifest import kept_rows

READABLE = (".glb", ".gltf")


@dataclass(frozen=True)
class Asset:
    """A file to render; `clips` are the names of the clips that may be used, None for all that move.

    `caption` says what it shows, "" where nobody does.
    """

    id: str
    path: Path
    clips: tuple[str, ...] | None = None
    caption: str = ""


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
        found = [Asset(str(file.relative_to(path).with_suffix("")), file, caption=read_caption(file)) for file in files]
    elif path.is_file():
        places = [(row, path.parent / row.path) for row in kept_rows(path)]
        found = [Asset(row.id, place, row.clip_names(), row.caption or read_caption(place)) for row, place in places]
    else:
        raise UserError(f"no such folder or manifest: {where}")
    held = [asset.id for asset in found if heldout_set_of(asset.id)]
    if held:
        log.warning("left out %d held-out test objects, e.g. %s", len(held), held[0])
    kept = sorted((asset for asset in found if not heldout_set_of(asset.id)), key=lambda asset: asset.id)
    if not kept:
        raise UserError(f"no asset to render at {where}; looked for {', '.join(READABLE)} or rows with decision keep")
    return kept


def held_out_groups(name_or_path: str) -> dict[str, list[str]]:
    """A list of held-out assets by group: ids of each, groups of groups taken apart.

    Raises:
        UserError: no such preset or file, or it holds something else than lists of ids.
    """
    groups: dict[str, list[str]] = {}
    for name, value in load_preset(name_or_path).items():
        for group, ids in value.items() if isinstance(value, dict) else [(name, value)]:
            if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
                raise UserError(f"{name_or_path}: {group} must be a list of ids of assets, not {ids!r}")
            groups[group] = ids
    return groups


def held_out_ids(config: DataConfig, assets: Sequence[Asset]) -> list[str]:
    """The ids that `config.held_out` and its list name; those of the list may lack some assets, but not all.

    Raises:
        UserError: the list cannot be read, or names none of the assets, so that it would silently hold nothing out.
    """
    if not config.held_out_list:
        return list(config.held_out)
    named = {one for ids in held_out_groups(config.held_out_list).values() for one in ids}
    here = named & {asset.id for asset in assets}
    if not here:
        raise UserError(f"data.options.held_out_list {config.held_out_list} names none of the {len(assets)} assets")
    if here != named:
        log.warning("%d of the %d assets of %s are not here", len(named - here), len(named), config.held_out_list)
    return sorted(here | set(config.held_out))


def split_assets(assets: list[Asset], held_out: Sequence[str], held_out_only: bool) -> list[Asset]:
    """The assets without the held-out ids, or those alone.

    Raises:
        UserError: an id is not among the assets, so that it would silently hold nothing out; or nothing is left.
    """
    if unknown := set(held_out) - {asset.id for asset in assets}:
        raise UserError(
            f"data.options.held_out names {sorted(unknown)[0]!r}, which is not among the {len(assets)} assets"
        )
    left = [asset for asset in assets if (asset.id in held_out) == held_out_only]
    if not left:
        raise UserError("data.options.held_out leaves no asset to render; name some, but not all")
    return left
