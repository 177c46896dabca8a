"""`viewtime render`: assets in, grid folders out, with a record of every decision and a report at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viewtime.configs.earlier import with_defaults
from viewtime.configs.limits import MANY, check_limits
from viewtime.configs.schema.render import RenderConfig
from viewtime.errors import UserError
from viewtime.files import append_jsonl, atomic_path, read_jsonl
from viewtime.grid import FrameGrid
from viewtime.json_files import read_json
from viewtime.log import log, progress_bar
from viewtime.run_folder import RunFolder, plain, start_run
from viewtime.run_lock import alone_in

from .assets import AssetFile, content_of, find_assets, first_clips
from .pool import Event, run_pool
from .ray_pool import run_ray
from .sheets import write_sheet

# Options that change neither a pixel nor which clips an asset gives: a run may be resumed with others.
FREE_OPTIONS = ("source", "out", "limit", "sheets", "ray", "workers")
LIMITS = {
    "views": (1, 512), "frames": (1, 4096), "size": (8, 4096), "seed": (0, MANY), "limit": (0, MANY),
    "clips_per_asset": (0, MANY), "sheets": (0, MANY), "framing.orbits": (1, 10000), "framing.elevation_min": (-90, 90),
    "framing.elevation_max": (-90, 90), "framing.base_distance": (0.01, 1e6), "framing.growth": (1.0001, 10),
    "framing.margin": (0, 0.49), "framing.fov_y": (1, 170), "framing.base_fps": (0.01, 1e6),
    "framing.motion_threshold": (0, 1), "framing.min_motion": (0, 1), "quality.samples": (1, 65536),
    "quality.world_strength": (0, 1e6), "workers.count": (0, MANY), "workers.timeout": (0.001, MANY),
    "workers.retries": (0, MANY), "workers.max_failures": (0, 1),
}  # fmt: skip


def run(config: RenderConfig) -> list[Path]:
    """Render what is not rendered yet; returns the run folder, the report and the sheets.

    Files: `grids/SAMPLE/` (lossless FrameGrid folders), `events.jsonl` (one line per sample and asset),
    `report.json`, `sheets/`.

    Raises:
        UserError: nothing to render, the folder holds grids of other settings, another run is using it, the
            share of failures passes `workers.max_failures`, or every asset was rejected.
    """
    assets = first_clips(find_assets(Path(config.source), config.engine), config)
    check_limits(config, LIMITS)
    if config.framing.elevation_min > config.framing.elevation_max:
        raise UserError(
            f"--framing.elevation-min {config.framing.elevation_min:g} lies above --framing.elevation-max "
            f"{config.framing.elevation_max:g}; give the lower one first"
        )
    folder = Path(config.out)
    with alone_in(folder):
        _same_settings(folder, config)
        run_folder = start_run(folder, "render", config, config.seed)
        settled, finished = _settled(run_folder.path("events.jsonl"), folder / "grids")
        todo = [asset for asset in assets if not _is_finished(asset, finished)]
        started = time.monotonic()
        events = _events(todo, config, frozenset(settled))
        fresh = _follow(events, run_folder, len(todo)) if todo else []
        report = _report(run_folder, assets, fresh, time.monotonic() - started)
        sheets = _sheets(run_folder, config.sheets)
    _tell(report)
    if report["failed"] > config.workers.max_failures * max(1, report["failed"] + report["rendered"]):
        raise UserError(
            f"{report['failed']} samples failed and {report['rendered']} were rendered; over the limit "
            f"--workers.max-failures {config.workers.max_failures:g}; reasons in {folder / 'report.json'}"
        )
    if not report["rendered"]:
        raise UserError(
            f"nothing was rendered: {report['rejected']} assets or samples rejected; each with its reason in "
            f"{run_folder.path('events.jsonl')}"
        )
    return [folder / "grids", run_folder.path("report.json"), *sheets]


def _events(assets: list[AssetFile], config: RenderConfig, done: frozenset[str]) -> Iterator[Event]:
    if config.ray is not None:
        return run_ray(assets, config, done)
    return run_pool(assets, config, done, config.workers.count)


def _follow(events: Iterable[Event], run_folder: RunFolder, total: int) -> list[Event]:
    """Record every event as it comes and keep the bar (assets done, images a second, time left) up to date."""
    fresh, counts, started = [], Counter(), time.monotonic()
    with progress_bar("assets", total) as bar:
        for event in events:
            append_jsonl(run_folder.path("events.jsonl"), event)
            fresh.append(event)
            counts["images"] += event.get("images", 0) if event.get("seconds") else 0
            if "sample" in event:
                counts[event["event"]] += 1
            rate = counts["images"] / max(time.monotonic() - started, 1e-9)
            note = f"{counts['rendered']} samples, {rate:.1f} images/s, {counts['failed']} failed"
            bar.advance(0 if "sample" in event else 1, note)
    return fresh


def _is_finished(asset: AssetFile, finished: dict[str, set[str]]) -> bool:
    """By name and content: another file of the same name is another asset."""
    return asset.id in finished and asset.path.is_file() and content_of(asset.path) in finished[asset.id]


def _settled(path: Path, grids: Path) -> tuple[set[str], dict[str, set[str]]]:
    """Samples that need no further work, and contents by id of complete assets, out of an earlier run's events.

    What failed is tried again; what was rendered counts only while its folder is there.
    """
    if not path.is_file():
        return set(), {}
    settled, finished, incomplete = set(), {}, set()
    for event in read_jsonl(path):
        kind, sample, asset = event["event"], event.get("sample"), event["asset"]
        if sample is None and kind == "failed":
            incomplete.add(asset)
        elif sample is None:
            finished.setdefault(asset, set()).add(event.get("content", ""))
        elif kind == "rejected" or (kind == "rendered" and (grids / sample / "grid.json").is_file()):
            settled.add(sample)
        elif kind == "rendered":
            incomplete.add(asset)
    latest = {event["sample"]: event for event in read_jsonl(path) if "sample" in event}
    incomplete |= {event["asset"] for event in latest.values() if event["event"] == "failed"}
    return settled, {asset: contents for asset, contents in finished.items() if asset not in incomplete}


def _report(run_folder: RunFolder, assets: list[AssetFile], fresh: list[Event], seconds: float) -> dict[str, Any]:
    """Totals over all runs in this folder, and the speed of this one. Written as report.json."""
    path = run_folder.path("events.jsonl")
    latest: dict[str, Event] = {}
    for event in read_jsonl(path) if path.is_file() else []:
        if event["event"] != "asset":
            latest[event.get("sample") or f"asset {event['asset']}"] = event
        else:
            latest.pop(f"asset {event['asset']}", None)
    counts = Counter(event["event"] for event in latest.values())
    reasons: dict[str, Counter[str]] = {"rejected": Counter(), "failed": Counter()}
    examples: dict[str, str] = {}
    for event in latest.values():
        if event["event"] in reasons:
            reasons[event["event"]][event["reason"]] += 1
            examples.setdefault(event["reason"], event["message"])
    made = sum(event["images"] for event in fresh if event["event"] == "rendered" and event["seconds"])
    report = {
        "assets": len(assets),
        "rendered": counts["rendered"],
        "rejected": counts["rejected"],
        "failed": counts["failed"],
        "reasons": {kind: dict(found.most_common()) for kind, found in reasons.items()},
        "examples": examples,
        "images_this_run": made,
        "seconds_this_run": round(seconds, 2),
        "images_per_second": round(made / seconds, 2) if made else 0.0,
    }
    with atomic_path(run_folder.path("report.json")) as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    return report


def _tell(report: dict[str, Any]) -> None:
    log.info(
        "rendered %d, rejected %d, failed %d; %d images in %.0f s, %.1f images/s",
        *(report[name] for name in ("rendered", "rejected", "failed", "images_this_run", "seconds_this_run")),
        report["images_per_second"],
    )
    for kind, reasons in report["reasons"].items():
        for reason, count in reasons.items():
            log.info("  %s: %d x %s, for one: %s", kind, count, reason, report["examples"][reason])


def _sheets(run_folder: RunFolder, count: int) -> list[Path]:
    """Contact sheets of the first samples by name, those of other assets first; existing ones are kept."""
    grids = sorted(path for path in run_folder.path("grids").glob("*") if (path / "grid.json").is_file())
    by_asset: dict[str, list[Path]] = {}
    for path in grids:
        provenance = read_json(path / "grid.json", dict).get("provenance")
        asset = str(provenance.get("asset")) if isinstance(provenance, dict) else path.name
        by_asset.setdefault(asset, []).append(path)
    ordered = [paths[turn] for turn in range(len(grids)) for paths in by_asset.values() if turn < len(paths)]
    sheets = []
    for path in ordered[:count]:
        target = run_folder.path("sheets") / f"{path.name}.png"
        if not target.is_file():
            write_sheet(FrameGrid.load(path), target)
        sheets.append(target)
    return sheets


@dataclass(frozen=True)
class Settings:
    """What `settings.json` holds."""

    settings: dict[str, Any]


def _same_settings(folder: Path, config: RenderConfig) -> None:
    """Refuse to mix samples of different settings in one folder; one without a grid starts anew with these."""
    values = {name: value for name, value in plain(asdict(config)).items() if name not in FREE_OPTIONS}
    path = folder / "settings.json"
    if path.is_file():
        before = with_defaults(RenderConfig, read_json(path, Settings).settings)  # options that came since
        changed = sorted(name for name in values if before.get(name) != values[name])
        if not changed:
            return
        if any((folder / "grids").glob("*/grid.json")):
            raise UserError(
                f"{folder} holds grids rendered with other settings ({', '.join(changed)} differ); "
                "choose another --out, or give the same settings to resume"
            )
        (folder / "events.jsonl").unlink(missing_ok=True)  # what was rejected was so by the other settings
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"settings": values}, indent=1))
