"""`viewtime encode`: a fixed plan of shards, each made whole or not at all.

The plan (which grid goes into which shard) is written first and never depends on what was done before. So a run
that is killed and started again makes the same bytes as one that was not, and shards can be made in any order.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from viewtime.configs.schema.encode import EncodeConfig
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import read_json
from viewtime.log import log, progress_bar
from viewtime.run_folder import start_run
from viewtime.run_lock import alone_in

from .shards import is_whole, read_index, shard_name
from .spread import encode_all

PLAN_VERSION = 2


def run(config: EncodeConfig) -> list[Path]:
    """Encode all grids below the source.

    Returns:
        Paths of the shards' folder and of dataset.json, and of failed.jsonl where there is one.

    Raises:
        UserError: nothing to encode, an earlier run with another plan lies there, or too many grids failed.
    """
    _check(config)
    output = Path(config.out)
    plan = make_plan(config)
    with alone_in(output):
        _keep_plan(output / "plan.json", plan)
        start_run(output, "encode", config)
        return _run(config, output, plan)


def _run(config: EncodeConfig, output: Path, plan: dict[str, Any]) -> list[Path]:
    numbers = range(len(plan["shards"]))
    todo = [number for number in numbers if not is_whole(output / shard_name(number))]
    if len(todo) < len(numbers):
        log.info("continuing: %d of %d shards are there", len(numbers) - len(todo), len(numbers))
    with progress_bar("encoding shards", len(todo)) as bar:
        for index in encode_all(config, plan, todo):
            bar.advance(note=f"{index.bytes / 1e6:.1f} MB")
    return _finish(config, output, plan)


def _check(config: EncodeConfig) -> None:
    if config.kind == "latents" and config.weights is None:
        raise UserError("latents need --weights: SVD, SV3D or SV4D weights with a VAE and CLIP; or use --kind pixels")
    if config.samples_per_shard < 1:
        raise UserError(f"--samples-per-shard {config.samples_per_shard}; must be at least 1")
    if config.workers < 0:
        raise UserError(f"--workers {config.workers}; must be at least 1, or 0 for as many as there are GPUs")


def make_plan(config: EncodeConfig) -> dict[str, Any]:
    """Which grids go into which shard, from the sorted paths of the grids alone, and what decides their bytes.

    What the grids hold is told by their grid.json and the sizes of their files.

    Raises:
        UserError: no such folder, or no grid below it.
    """
    source = Path(config.source)
    if not source.is_dir():
        raise UserError(f"no such folder: {source}")
    grids = sorted(path.parent.relative_to(source).as_posix() for path in source.rglob("grid.json"))
    if not grids:
        raise UserError(f"no grid (grid.json) below {source}; make some with `viewtime render`")
    size = config.samples_per_shard
    return {
        "version": PLAN_VERSION,
        "kind": config.kind,
        "resolution": config.resolution,
        "quality": config.quality,
        "weights": config.weights,
        "grids": _content(source, grids),
        "shards": [grids[start : start + size] for start in range(0, len(grids), size)],
    }


def _content(source: Path, grids: list[str]) -> str:
    digest = hashlib.sha256()
    for id in grids:
        digest.update((source / id / "grid.json").read_bytes())
        sizes = sorted((path.name, path.stat().st_size) for path in (source / id).rglob("*") if path.is_file())
        digest.update(json.dumps(sizes).encode())
    return digest.hexdigest()


def _keep_plan(path: Path, plan: dict[str, Any]) -> None:
    if path.is_file():
        earlier = read_json(path, dict[str, Any])
        if different := [name for name in plan if earlier.get(name) != plan[name]]:
            raise UserError(
                f"{path.parent} was begun with other {', '.join(different)}; give another --out or delete it"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plan, indent=1))


def _finish(config: EncodeConfig, output: Path, plan: dict[str, Any]) -> list[Path]:
    """Write dataset.json (what there is) and failed.jsonl, and judge the share of failures."""
    indices = {shard_name(number): read_index(output / shard_name(number)) for number in range(len(plan["shards"]))}
    failed = [item for index in indices.values() for item in index.failed]
    count = sum(len(index.entries) for index in indices.values())
    record = {
        "kind": config.kind,
        "samples": count,
        "bytes": sum(index.bytes for index in indices.values()),
        "shards": {
            name: {"samples": len(index.entries), "bytes": index.bytes, "sha256": index.sha256}
            for name, index in indices.items()
        },
    }
    with atomic_path(output / "dataset.json") as path:
        path.write_text(json.dumps(record, indent=1))
    log.info(
        "%d samples in %d shards, %.2f MB, %.0f kB a sample; %d failed",
        *(count, len(indices), record["bytes"] / 1e6, record["bytes"] / 1e3 / max(count, 1), len(failed)),
    )
    written = [output, output / "dataset.json"]
    report = output / "failed.jsonl"
    if failed:
        lines = [json.dumps({"id": id, "stage": "encode", "reason": reason}) for id, reason in failed]
        with atomic_path(report) as path:
            path.write_text("".join(f"{line}\n" for line in lines))
        written.append(report)
    else:
        report.unlink(missing_ok=True)
    if len(failed) > config.max_failed_share * (count + len(failed)):
        raise UserError(
            f"{len(failed)} of {count + len(failed)} grids could not be encoded; limit {config.max_failed_share:.0%} "
            f"(--max-failed-share). See {report}"
        )
    return written
