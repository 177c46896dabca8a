"""`viewtime curate`: candidates through the filters into a manifest; continues where a killed run stopped."""

from __future__ import annotations

import json
import queue
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from viewtime.configs.earlier import mark_of, same_mark
from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.data.curation.candidates import Candidate, folder_candidates
from viewtime.data.curation.decide import Duplicates, decide_alone
from viewtime.data.curation.examine import examine
from viewtime.data.curation.guard import GuardedWorker
from viewtime.data.curation.objaverse_source import PREFIX, objaverse_candidates, read_ids
from viewtime.data.curation.objaverse_xl_source import PREFIX as XL_PREFIX
from viewtime.data.curation.objaverse_xl_source import read_animated, read_annotations, xl_candidates
from viewtime.errors import UserError
from viewtime.files import append_jsonl, atomic_path, read_jsonl
from viewtime.json_files import read_json
from viewtime.log import log, progress
from viewtime.render_objaverse.manifest import check_decided
from viewtime.run_folder import plain, start_run
from viewtime.run_lock import alone_in

DECISIVE = ("source", "licence", "licence_table", "animated", "limits")
AHEAD = 4  # candidates in the works for each worker


def run(config: CurateConfig) -> list[Path]:
    """Curate a source.

    Returns:
        Paths of manifest.jsonl and summary.json.

    Raises:
        UserError: nothing to curate, an earlier run with other settings lies there, another
            run writes there, or too many downloads failed.
    """
    if config.workers < 1:
        raise UserError(f"--workers {config.workers}; must be at least 1")
    if config.limit < 0:
        raise UserError(f"--limit {config.limit}; must be at least 1, or 0 for all")
    candidates = list(islice(_candidates(config), config.limit or None))
    with alone_in(config.out):
        return _curate(config, candidates, Path(config.out))


def _curate(config: CurateConfig, candidates: list[Candidate], output: Path) -> list[Path]:
    manifest = output / "manifest.jsonl"
    done = _earlier_rows(config, manifest)
    start_run(output, "curate", config)
    with atomic_path(output / "settings.json") as path:
        path.write_text(json.dumps(_mark(config)))
    duplicates, rows = Duplicates(), []
    if done:
        log.info("continuing: %d of %d candidates were decided before", len(done), len(candidates))
    todo = [candidate for candidate in candidates if candidate.id not in done]
    fresh = decide_all(todo, config.limits, output, config.workers)
    for candidate in progress(candidates, "curating"):
        known = done.get(candidate.id)
        row = duplicates.apply(known or next(fresh))
        if known is None:
            append_jsonl(manifest, row)
        rows.append(row)
    summary = summarise(rows)
    with atomic_path(output / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=1))
    log.info("%s", describe(summary))
    if any(row["reason"] == "unknown_licence" and row["licence"] is None for row in rows):
        log.warning("files without a licence are never kept: name it with --licence (CC0) or --licence-table FILE.json")
    failed = summary["failed"] / len(rows)
    if failed > config.max_failed_share:
        raise UserError(
            f"{summary['failed']} of {len(rows)} assets could not be had; limit {config.max_failed_share:.0%} "
            f"(--max-failed-share). See {manifest}"
        )
    return [manifest, output / "summary.json"]


def _candidates(config: CurateConfig) -> Iterator[Candidate]:
    if config.source.startswith(XL_PREFIX):
        animated = read_animated(config.animated) if config.animated else None
        return xl_candidates(read_annotations(config.source), animated)
    if config.animated:
        raise UserError("--animated is for objaverse-xl: alone, whose annotations do not say what moves")
    if config.source.startswith(PREFIX):
        return objaverse_candidates(read_ids(config.source))
    table = Path(config.licence_table) if config.licence_table else None
    return folder_candidates(Path(config.source), config.licence, table)


def _mark(config: CurateConfig) -> dict[str, Any]:
    """Of what decides; an output folder holds the decisions of one source under one set of limits."""
    return mark_of({name: value for name, value in plain(config).items() if name in DECISIVE}, "")


def _mark_before(settings: Path) -> dict[str, Any] | None:
    """The mark of the manifest that is there; out of `config.yaml` where an earlier version wrote a digest alone."""
    found, told = read_json(settings, dict) if settings.is_file() else None, settings.with_name("config.yaml")
    if found is None or "fingerprint" not in found or not told.is_file():
        return found
    try:
        options = yaml.safe_load(told.read_text())
    except (ValueError, yaml.YAMLError):
        return found
    if not isinstance(options, dict):
        return found
    return mark_of({name: options[name] for name in DECISIVE if name in options}, "")


def _earlier_rows(config: CurateConfig, manifest: Path) -> dict[str, dict[str, Any]]:
    """Rows of a run that was cut off, by id; downloads that failed are tried again."""
    settings = manifest.with_name("settings.json")
    if not manifest.is_file():
        return {}
    if not same_mark(CurateConfig, _mark_before(settings), _mark(config)):
        raise UserError(
            f"{manifest.parent} holds the manifest of another source, licence or limits; "
            "give another --out or delete it"
        )
    rows = read_jsonl(manifest)
    for number, row in enumerate(rows, 1):
        check_decided(row, f"{manifest}, row {number}")
    kept = [row for row in rows if row["decision"] != "failed"]
    # Rewritten whole: a line cut off by a kill and failed rows must not stay in the middle.
    with atomic_path(manifest) as path:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    return {row["id"]: row for row in kept}


def decide_all(
    candidates: Iterable[Candidate], limits: CurationLimits, output: Path, workers: int
) -> Iterator[dict[str, Any]]:
    """Rows in the candidates' order, decided by a pool of guarded processes."""
    idle: queue.SimpleQueue[GuardedWorker] = queue.SimpleQueue()
    pool = [GuardedWorker(examine, limits.memory_gb, limits.timeout_s) for _ in range(workers)]
    for worker in pool:
        idle.put(worker)

    def decide(candidate: Candidate) -> dict[str, Any]:
        worker = idle.get()
        try:
            return decide_alone(candidate, limits, output, worker)
        finally:
            idle.put(worker)

    waiting: list[Future[dict[str, Any]]] = []
    with ThreadPoolExecutor(workers) as threads:
        try:
            for candidate in candidates:
                waiting.append(threads.submit(decide, candidate))
                if len(waiting) > AHEAD * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
            threads.shutdown(wait=True)
            for worker in pool:
                worker.close()


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of decisions, of reasons by stage, and of kept clips."""
    decisions = Counter(row["decision"] for row in rows)
    reasons = Counter(f"{row['stage']}: {row['reason']}" for row in rows if row["decision"] != "keep")
    clips = [clip for row in rows if row["decision"] == "keep" for clip in row["clips"]]
    return {
        "assets": len(rows),
        **{name: decisions.get(name, 0) for name in ("keep", "reject", "failed")},
        "clips_kept": sum(clip["decision"] == "keep" for clip in clips),
        "clips_of_kept_assets": len(clips),
        "reasons": dict(sorted(reasons.items())),
    }


def describe(summary: dict[str, Any]) -> str:
    """The summary in one line."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    kept = f"kept {summary['keep']} of {summary['assets']} assets with {summary['clips_kept']} clips"
    return f"{kept}; others: {reasons}" if reasons else kept
